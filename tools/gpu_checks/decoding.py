"""Sparse and dense decoding by size, unknown share and precision, and the constants fitted to them."""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from modeling.decoder import DetailCapture
from modeling.decoder.sparse import decode as sparse
from modeling.decoder.sparse.costs import COSTS, costs_on
from modeling.decoder.sparse.receptive_field import ReceptiveField
from tools.benchmark_decoder import band_around, draw_blobs
from tools.gpu_checks.inputs import named
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Cost, Settings

SIZES = ((512, 512), (1024, 1024), (1440, 1440), (2048, 2048))
TINY_SIZES = ((64, 64), (96, 128))
SHARES = (0.05, 0.1, 0.2, 0.4)
PRECISIONS = ("fp32", "bf16")
CHUNKS = (2**21, 2**24, 2**26, 2**28)
DIM = 384  # channels of the features of ViT-S


class Decoding(NamedTuple):
    """Costs of sparse and of dense decoding, and whether the current constants choose the sparse one."""

    work: sparse.Work
    dense: Cost
    sparse: Cost
    chosen: bool

    @property
    def loss(self) -> float:
        """Ratio of the time of the chosen decoding to that of the faster one; 1 if it is the faster."""
        dense, tiles = self.dense.milliseconds, self.sparse.milliseconds
        return (tiles if self.chosen else dense) / min(dense, tiles)


def cases(settings: Settings) -> Iterator[Case]:
    torch.manual_seed(0)
    decoder = DetailCapture().eval().to(settings.device)
    sizes = settings.sized(SIZES, TINY_SIZES)
    for precision in settings.sized(PRECISIONS, ("bf16",)):
        timed: list[Decoding] = []
        for size in sizes:
            yield f"{named(size)}, {precision}", partial(compare, settings, decoder, size, precision, timed)
        yield f"constants, {precision}", partial(fit, settings, timed)
    check = partial(compare_chunks, settings, decoder, sizes[-1])
    yield f"chunk_values, {named(sizes[-1])}, bf16, sparse, 20 % unknown", check


@torch.inference_mode()
def compare(
    settings: Settings, decoder: DetailCapture, size: tuple[int, int], precision: str, timed: list[Decoding]
) -> Row:
    """Dense and sparse decoding by the share of active tiles; the measurements are added to `timed`."""
    found = [time_both(settings, decoder, size, share, precision) for share in settings.sized(SHARES, (0.1,))]
    timed += found
    tiles = "; ".join(f"{each.work.share:.0%} of tiles {each.sparse}" for each in found)
    loss = max(each.loss for each in found)
    return Row(
        f"dense {found[0].dense}; sparse: {tiles}; the current choice takes at most {loss:.2f} of the faster one",
        None,
        {"decodings": [each._asdict() | {"work": each.work._asdict()} for each in found]},
    )


def time_both(
    settings: Settings, decoder: DetailCapture, size: tuple[int, int], share: float, precision: str
) -> Decoding:
    features, images, unknown = make_inputs(settings, size, share)
    costs = {}
    for way in ("dense", "sparse"):
        decoder.decoding = way
        with settings.autocast(precision):
            costs[way] = settings.measure(lambda: decoder(features, images, unknown), warm_up=1, seconds=0.5)
    decoder.decoding = "auto"
    field = ReceptiveField.of(unknown[:, 0], len(decoder.fusion_blks))
    chosen = sparse.is_cheaper(decoder, field, unknown[:, 0])
    return Decoding(sparse.work_of(decoder, field, unknown[:, 0]), **costs, chosen=chosen)


def make_inputs(settings: Settings, size: tuple[int, int], share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Features and images of random values, and the unknown pixels."""
    features = torch.randn(1, DIM, size[0] // 16, size[1] // 16, device=settings.device)
    images = torch.randn(1, 4, *size, device=settings.device)
    unknown = band_around(draw_blobs(size), share).to(settings.device)
    return features.contiguous(memory_format=torch.channels_last), images, unknown


def fit(settings: Settings, timed: list[Decoding]) -> Row:
    """Best-fitting constants of sparse/costs.py, in the unit of the dense decoder."""
    work = [each.work for each in timed]
    dense, tiles = (
        np.array([cost.milliseconds for cost in costs])
        for costs in ([each.dense for each in timed], [each.sparse for each in timed])
    )
    products = np.array([w.pixels * w.dense for w in work])
    unit = float((products * dense).sum() / (products**2).sum())  # ms of a multiplication, with a dense_pixel of 0
    terms = np.array([[1, w.pixels * w.active, w.pixels * w.share] for w in work])
    scale = terms.max(axis=0)
    weighted = terms / scale / tiles[:, None]  # so that relative errors have equal weight
    call, product, pixel = (float(x) for x in nnls(weighted, np.ones(len(tiles)))[0] / scale / unit)
    faster = sum(math.isclose(each.loss, 1) for each in timed)
    now = costs_on(torch.device(settings.device))
    return Row(
        f"dense_pixel 0, sparse_product {product:.2f}, sparse_pixel {pixel:,.0f}, sparse_call {call:.1e} fit best; now "
        f"{now.dense_pixel:,.0f}, {now.sparse_product:.2f}, {now.sparse_pixel:,.0f}, {now.sparse_call:.1e}, which "
        f"choose the faster way in {faster} of {len(timed)} cases",
        None,
        {"sparse_product": product, "sparse_pixel": pixel, "sparse_call": call, "unit_ms": unit},
    )


@torch.inference_mode()
def compare_chunks(settings: Settings, decoder: DetailCapture, size: tuple[int, int]) -> Row:
    """Sparse decoding by the number of values that are computed together."""
    inputs = make_inputs(settings, size, share=0.2)
    usual, known = costs_on(torch.device(settings.device)), dict(COSTS)
    decoder.decoding = "sparse"
    costs = {}
    try:
        for values in CHUNKS:
            COSTS[settings.device] = usual._replace(chunk_values=values)
            with settings.autocast("bf16"):
                costs[values] = settings.measure(lambda: decoder(*inputs), warm_up=1, seconds=0.5)
    finally:
        COSTS.clear()
        COSTS.update(known)
        decoder.decoding = "auto"
    listed = "; ".join(f"2^{values.bit_length() - 1} {cost}" for values, cost in costs.items())
    return Row(
        f"{listed}; now 2^{usual.chunk_values.bit_length() - 1}",
        None,
        {str(values): cost._asdict() for values, cost in costs.items()},
    )
