"""Time and peak memory of the backbones on large images, and of attention with relative positions by chunk size."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from modeling.backbone import relative_positions
from tools.gpu_checks.alpha import MODELS
from tools.gpu_checks.inputs import named
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Cost, Settings

CHUNKS = (2**26, 2**28, 2**30, 2**32)  # bytes
PRECISIONS = ("fp32", "bf16")
CHUNK_SIZES = ((1024, 1024), (2048, 2048))
LARGE = ((4096, 4096),)
TINY_SIZES = ((64, 64),)


def cases(settings: Settings) -> Iterator[Case]:
    backbones = {name: build().backbone.to(settings.device) for name, build in MODELS.items()}
    precisions = settings.sized(PRECISIONS, ("bf16",))
    for size in settings.sized(CHUNK_SIZES, TINY_SIZES):
        for precision in precisions:
            check = partial(compare_chunks, settings, backbones["original ViTMatte-S"], size, precision)
            yield f"chunks, backbone of original ViTMatte-S, {named(size)}, {precision}", check
    for name, backbone in backbones.items():
        for size in settings.sized(LARGE, TINY_SIZES):
            for precision in precisions:
                check = partial(time_once, settings, backbone, size, precision)
                yield f"backbone of {name}, {named(size)}, {precision}", check


def compare_chunks(settings: Settings, backbone: nn.Module, size: tuple[int, int], precision: str) -> Row:
    """Costs of the backbone by the number of bytes of relative positions at a time."""
    known = dict(relative_positions.CHUNK_BYTES)
    now = known.get(settings.device, relative_positions.ACCELERATOR_CHUNK_BYTES)
    costs = {}
    try:
        for nbytes in CHUNKS:
            relative_positions.CHUNK_BYTES[settings.device] = nbytes
            costs[nbytes] = encode(settings, backbone, size, precision, repeats=3)
    finally:
        relative_positions.CHUNK_BYTES.clear()
        relative_positions.CHUNK_BYTES.update(known)
    listed = "; ".join(f"{nbytes // 2**20} MiB: {cost}" for nbytes, cost in costs.items())
    values = {str(nbytes): cost._asdict() for nbytes, cost in costs.items()}
    return Row(f"{listed}; now {now // 2**20} MiB", None, values)


def time_once(settings: Settings, backbone: nn.Module, size: tuple[int, int], precision: str) -> Row:
    cost = encode(settings, backbone, size, precision, repeats=1)
    return Row(str(cost), None, cost._asdict())


@torch.inference_mode()
def encode(settings: Settings, backbone: nn.Module, size: tuple[int, int], precision: str, repeats: int) -> Cost:
    inputs = torch.rand(1, 4, *size, device=settings.device)
    with settings.autocast(precision):
        return settings.measure(lambda: backbone(inputs), repeats, warm_up=1, seconds=1)
