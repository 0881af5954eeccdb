"""The diffusion process: schedules and times of the public code, exact samplers, strict strategies."""

import math

import numpy as np
import pytest
import torch

from modeling.decoder.diffusion_unet import sinusoids
from modeling.diffusion import GaussianDiffusion, Strategy
from runtime.errors import InputError
from tests.references.diffmatte_weights import GOLDENS

SCHEDULES = ("linear", "cosine", "sigmoid", "power")


def random_alpha() -> torch.Tensor:
    return torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def noise_of(seed: int) -> torch.Tensor:
    return torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_the_public_code(name):
    stored = np.load(GOLDENS / "schedules.npz")
    process = GaussianDiffusion(noise_schedule=name)
    found = np.array([process.gamma(float(time)) for time in stored["times"]])
    assert np.abs(found - stored[f"gamma_{name}"]).max() < 1e-6
    assert (np.diff(found) < 0).all()
    assert found.min() >= 1e-9
    assert found.max() <= 1


def test_sampling_times_and_sinusoids_are_those_of_the_public_code():
    stored = np.load(GOLDENS / "schedules.npz")
    for steps in (1, 2, 5, 10):
        assert np.abs(np.array(Strategy("ddim", steps).times()) - stored[f"sampling_times_{steps}"]).max() < 1e-6
    found = sinusoids(torch.from_numpy(stored["time_embedding_times"]), 32)
    assert np.abs(found.numpy() - stored["time_embedding"]).max() < 1e-6


@pytest.mark.parametrize("strategy", ["ddim1", "ddim2", "ddim10", "ddpm1", "ddpm5"])
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_an_oracle_is_recovered_whatever_the_noise(strategy, scale):
    alpha = random_alpha()
    noises = iter(range(2, 100))
    sampled = GaussianDiffusion(scale=scale).sample(
        lambda x_t, time: 2 * alpha - 1, noise_of(1), Strategy.parse(strategy), lambda: noise_of(next(noises))
    )
    assert (sampled - alpha).abs().max() < 1e-6


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddpm_keeps_the_variance_of_the_process_in_every_step(name):
    """With the true x0, x at time t has the variance b^2 gamma var(x0) + 1 - gamma."""
    process, x0 = GaussianDiffusion(noise_schedule=name), 2 * torch.rand(1, 1, 256, 256) - 1
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(x0.shape, generator=generator)

    seen = []
    strategy = Strategy("ddpm", 10)
    process.sample(lambda x_t, time: x0, draw(), strategy, draw, observe=lambda index, x_t, _: seen.append(x_t.std()))
    for time, std in zip(strategy.times(), seen, strict=False):
        gamma = process.gamma(time)
        assert float(std) == pytest.approx(math.sqrt(0.2**2 * gamma * float(x0.var()) + 1 - gamma), rel=0.03)


def test_what_is_known_replaces_the_estimate_in_every_step():
    known = torch.full((1, 1, 64, 64), torch.nan)
    known[..., :32] = 1.0
    seen = []
    sampled = GaussianDiffusion().sample(
        lambda x_t, time: torch.zeros_like(x_t), noise_of(0), Strategy("ddim", 3), known=known,
        observe=lambda index, x_t, x0: seen.append((float(x0[..., :32].min()), float(x0[..., 32:].max()))),
    )  # fmt: skip
    assert seen == [(1.0, 0.0)] * 3
    assert (sampled[..., :32] == 1).all()
    assert (sampled[..., 32:] == 0.5).all()


def test_the_network_sees_a_scaled_process_at_unit_variance():
    x_t = 0.3 * noise_of(0) + 5
    seen = GaussianDiffusion(scale=0.2).seen(x_t)
    assert float(seen.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert GaussianDiffusion(scale=1.0).seen(x_t) is x_t


@pytest.mark.parametrize(
    "text",
    ["ddim", "ddim0", "ddim-1", "10", "ddim 10", "DDIM10", "ddim1.5", "plms10", "", "ddim9999", "xddim10", "ddim10\n"],
)
def test_other_strategies_are_refused(text):
    with pytest.raises(InputError, match="expected ddim or ddpm and a number of steps"):
        Strategy.parse(text)


@pytest.mark.parametrize("scale", [0, -0.2, 1.1, math.nan])
def test_a_scale_outside_0_to_1_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1"):
        GaussianDiffusion(scale=scale)


def test_schedules_take_their_own_arguments_alone():
    assert GaussianDiffusion("power", schedule_kwargs={"exponent": 3}).gamma(0.5) == pytest.approx(1 - 0.125)
    with pytest.raises(TypeError, match="exponent"):
        GaussianDiffusion("cosine", schedule_kwargs={"exponent": 3})
    with pytest.raises(ValueError, match="noise_schedule must be one of linear"):
        GaussianDiffusion("square")
