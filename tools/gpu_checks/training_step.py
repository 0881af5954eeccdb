"""Time and peak memory of a training step and of that of the public DINOv3-ViTMatte."""

import math
from collections.abc import Iterator
from functools import partial

import torch

from tools.benchmark_training import Step, public_step, random_samples, step_of
from tools.gpu_checks.inputs import dinov3_vitmatte
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Settings


def cases(settings: Settings) -> Iterator[Case]:
    batch, side = settings.sized((16, 512), (2, 64))
    for precision in settings.sized(("bf16", "fp32"), ("bf16",)):
        yield f"batch {batch}, crop {side}, {precision}", partial(compare, settings, batch, side, precision)


def compare(settings: Settings, batch: int, side: int, precision: str) -> Row:
    """Compare a step of each on the same random samples."""
    torch.manual_seed(0)
    samples = {key: value.to(settings.device) for key, value in random_samples(batch, side).items()}
    costs, losses = {}, {}
    for name in ("public", "ours"):
        step = build(settings, name, precision)
        losses[name] = step(samples).item()
        costs[name] = settings.measure(partial(step, samples), repeats=9, seconds=4)
        del step  # frees its weights, moments and cached gradients
    ours, public = costs["ours"], costs["public"]
    memory = "" if ours.gib is None else f" and {ours.gib / public.gib:.0%} of the memory"
    return Row(
        f"ours {ours}, {1e3 * batch / ours.milliseconds:.0f} images/s; public {public}; "
        f"ours {ours.speed_against(public)}{memory}; losses {losses['ours']:.3f} and {losses['public']:.3f}",
        all(map(math.isfinite, losses.values())),
        {"ours": ours._asdict(), "public": public._asdict(), "losses": losses},
    )


def build(settings: Settings, name: str, precision: str) -> Step:
    autocast = partial(settings.autocast, precision)
    if name == "public":
        return public_step(settings.device, autocast)
    return step_of(dinov3_vitmatte(settings.tiny).to(settings.device), autocast)
