"""The diffusion process of alpha mattes in continuous time, and its samplers.

Alpha on the scale [-1, 1], x0, becomes x_t = b sqrt(gamma) x0 + sqrt(1 - gamma) noise. The share gamma falls from 1 at
t = 0 to nearly 0 at t = 1, and b scales the signal. Chen, "On the Importance of Noise Scheduling for Diffusion
Models", 2023; used for matting by Hu et al., "Diffusion for Natural Image Matting", ECCV 2024 (YihanHu-2022/DiffMatte).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from modeling.diffusion.strategy import Strategy

LEAST_GAMMA = 1e-9
LEAST_STD = 1e-5


def linear(time: Tensor) -> Tensor:
    """1 - t."""
    return 1 - time


def cosine(time: Tensor) -> Tensor:
    """cos(pi t / 2) squared."""
    return (math.pi / 2 * time).cos() ** 2


def sigmoid(time: Tensor, start: float = -3.0, end: float = 3.0) -> Tensor:
    """Logistic curve from `start` to `end`, scaled so that it falls from 1 to 0."""
    first, last = (1 / (1 + math.exp(-x)) for x in (start, end))
    return (last - torch.sigmoid(start + time * (end - start))) / (last - first)


def power(time: Tensor, exponent: float = 2.0) -> Tensor:
    """(1 - t) ** exponent."""
    return 1 - time**exponent


SCHEDULES: dict[str, Callable[..., Tensor]] = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid, "power": power}

# Function from a noisy alpha x_t (B, 1, H, W) and a time in (0, 1] to the estimate of x0 (B, 1, H, W).
Estimate = Callable[[Tensor, float], Tensor]
# Function that receives the number of a step from 0, the noisy alpha at its start, and its estimate of x0.
Observer = Callable[[int, Tensor, Tensor], None]


class GaussianDiffusion(nn.Module):
    """Process that adds noise to alpha, interprets the network's raw map, and samples alpha from noise.

    Args:
        noise_schedule: name in `SCHEDULES`.
        scale: scale b of the signal in (0, 1]. Below 1 the network's input is x_t divided by its standard deviation.
        predict_xstart: whether the raw map r means x0 = 2 sigmoid(r) - 1; otherwise it is the noise.
        time_difference: amount by which the target time of a DDPM step is reduced.
        schedule_kwargs: further arguments of the schedule.
    """

    def __init__(
        self,
        noise_schedule: str = "linear",
        scale: float = 0.2,
        predict_xstart: bool = True,
        time_difference: float = 0.0,
        schedule_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if noise_schedule not in SCHEDULES:
            raise ValueError(
                f"GaussianDiffusion: noise_schedule must be one of {', '.join(SCHEDULES)}, got {noise_schedule!r}"
            )
        if not 0 < scale <= 1:
            raise ValueError(f"GaussianDiffusion: scale must be above 0 and at most 1, got {scale}")
        if time_difference < 0:
            raise ValueError(f"GaussianDiffusion: time_difference must be 0 or more, got {time_difference}")
        self.noise_schedule = noise_schedule
        self.scale = scale
        self.predict_xstart = predict_xstart
        self.time_difference = time_difference
        self.schedule_kwargs = dict(schedule_kwargs or {})
        self.gamma(0.5)  # raises for arguments that the schedule does not have

    def gamma(self, time: float) -> float:
        """Share of the signal in the variance at a time in [0, 1], in float64."""
        return float(self._gamma(torch.tensor(time, dtype=torch.float64, device="cpu")))

    def add_noise(self, x0: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """x_t (B, 1, H, W) of clean alphas x0 in [-1, 1] at times (B,)."""
        signal, spread = self._shares(time)
        return self.scale * signal * x0 + spread * noise

    def seen(self, x_t: Tensor) -> Tensor:
        """x_t as input of the network: with a scale below 1 each sample is divided by its standard deviation."""
        if self.scale == 1:
            return x_t
        std = x_t.flatten(1).std(dim=1, correction=0).clamp(min=LEAST_STD)
        return x_t / std.view(-1, 1, 1, 1)

    def clean(self, raw: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Estimate of x0 in [-1, 1] from the network's raw map (B, 1, H, W) at times (B,)."""
        if self.predict_xstart:
            return 2 * torch.sigmoid(raw) - 1
        signal, spread = self._shares(time)
        return ((x_t - spread * raw) / (self.scale * signal)).clamp(-1, 1)

    def sample(
        self,
        estimate: Estimate,
        noise: Tensor,
        strategy: Strategy,
        step_noise: Callable[[], Tensor] | None = None,
        known: Tensor | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Sample alpha (B, 1, H, W) in [0, 1].

        Args:
            estimate: function that estimates x0, see `seen` and `clean`.
            noise: (B, 1, H, W), x at t = 1.
            step_noise: function that draws the noise (B, 1, H, W) of a DDPM step.
            known: (B, 1, H, W), given values of alpha, which replace the estimate in each step; NaN elsewhere.
            observe: function that is called in each step.
        """
        x = noise
        times = strategy.times()
        given = None if known is None else 2 * known - 1
        for index, (time, following) in enumerate(pairwise(times)):
            x0 = estimate(x, time)
            if given is not None:
                x0 = torch.where(given.isnan(), x0, given)
            if observe is not None:
                observe(index, x, x0)
            if strategy.sampler == "ddim":
                x = self._ddim(x, x0, time, following)
            else:
                x = self._ddpm(x, x0, time, max(0.0, following - self.time_difference), step_noise)
        return (x / self.scale + 1).mul_(0.5).clamp_(0, 1)

    def _ddim(self, x: Tensor, x0: Tensor, time: float, following: float) -> Tensor:
        """One step without new noise (Song et al., "Denoising Diffusion Implicit Models", 2021; eta 0)."""
        gamma, next_gamma = self.gamma(time), self.gamma(following)
        noise = (x - self.scale * math.sqrt(gamma) * x0) / math.sqrt(1 - gamma)
        return self.scale * math.sqrt(next_gamma) * x0 + math.sqrt(1 - next_gamma) * noise

    def _ddpm(
        self, x: Tensor, x0: Tensor, time: float, following: float, step_noise: Callable[[], Tensor] | None
    ) -> Tensor:
        """One ancestral step (Ho et al., "Denoising Diffusion Probabilistic Models", 2020).

        The ratio of the signal-to-noise ratios is exact here. The release computes it from logarithms with a lower
        limit of 1e-5, which makes x too wide for several steps from t = 1 on.
        """
        gamma, next_gamma = self.gamma(time), self.gamma(following)
        kept = gamma * (1 - next_gamma) / ((1 - gamma) * next_gamma)  # snr(t) / snr(t'), 0 at t' = 0
        mean = math.sqrt(next_gamma) * (x * (kept / math.sqrt(gamma)) + self.scale * (1 - kept) * x0)
        variance = (1 - next_gamma) * (1 - kept)
        return mean if variance == 0 else mean + math.sqrt(variance) * step_noise()

    def _shares(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(gamma) and sqrt(1 - gamma) at times (B,), each (B, 1, 1, 1)."""
        gamma = self._gamma(time)
        return tuple(share.sqrt().view(-1, 1, 1, 1) for share in (gamma, 1 - gamma))

    def _gamma(self, time: Tensor) -> Tensor:
        return SCHEDULES[self.noise_schedule](time, **self.schedule_kwargs).clamp(min=LEAST_GAMMA)
