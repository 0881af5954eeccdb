"""Closed-form matting on the device compared with a CPU, and its costs as a prior of training crops."""

from collections.abc import Iterator
from functools import partial

import torch

from modeling.classical.closed_form import closed_form_alpha
from modeling.priors.closed_form_prior import ClosedFormPrior
from modeling.priors.recorded import Recorded
from tools.gpu_checks.inputs import named, random_pair
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Settings

SIZES = ((512, 512), (333, 517))
TINY_SIZES = ((64, 64), (45, 110))
LIMIT = 1e-3  # largest difference of alpha for systems solved to a residual of 1e-7
CROPS = (48, 256)  # number and side of the crops of a training batch
TINY_CROPS = (2, 64)


def cases(settings: Settings) -> Iterator[Case]:
    for size in settings.sized(SIZES, TINY_SIZES):
        yield f"alpha, {named(size)}", partial(compare, settings, size)
    count, side = settings.sized(CROPS, TINY_CROPS)
    yield f"prior of {count} crops, {named((side, side))}", partial(time_prior, settings, count, side)


def compare(settings: Settings, size: tuple[int, int]) -> Row:
    """Largest difference at any pixel."""
    image, trimap = random_pair(size, 0.2)
    expected = closed_form_alpha(image, trimap, iterations=500, tolerance=1e-7)
    moved = (x.to(settings.device) for x in (image, trimap))
    alpha = closed_form_alpha(*moved, iterations=500, tolerance=1e-7).cpu()
    largest = (alpha - expected).abs().max().item()
    return Row(f"max {largest:.1e}; at most {LIMIT:.0e}", largest <= LIMIT, {"max": largest})


def time_prior(settings: Settings, count: int, side: int) -> Row:
    """Time and memory. On a GPU, a call that waits for it fails."""
    image, trimap = random_pair((side, side), 0.4, count, settings.device)
    prior = ClosedFormPrior().eval()  # in training mode it records itself
    prior(image, trimap)
    if settings.device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        prior(image, trimap)
    finally:
        if settings.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    cost = settings.measure(lambda: prior(image, trimap))
    recorded = Recorded(prior)
    again = recorded(image.flip(0), trimap.flip(0)), recorded(image, trimap)  # the second is a replay
    same = torch.equal(again[0], prior(image.flip(0), trimap.flip(0))) and torch.equal(again[1], prior(image, trimap))
    replayed = settings.measure(lambda: recorded(image, trimap))
    return Row(
        f"{cost}; recorded as a graph {replayed}, {'the same' if same else 'NOT the same'} bits",
        same,
        {"milliseconds": cost.milliseconds, "gib": cost.gib, "replayed_milliseconds": replayed.milliseconds},
    )
