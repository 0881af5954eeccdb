"""Sparse evaluation of the detail capture decoder where alpha is unknown, with the result of the dense decoder.

The receptive field of the unknown pixels is marked at every level, from the output back to the features. Then, coarse
to fine, only the tiles with a marked pixel are computed, from patches with the border that their convolutions read.
Pixels of a tile outside the receptive field may have any finite value, because no needed value depends on them. The
last fusion and the matting head run together, a few tiles at a time, so the input is the only map at full resolution.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modeling.decoder.sparse.costs import costs_on
from modeling.decoder.sparse.parallel import for_each, num_threads
from modeling.decoder.sparse.patch_convs import ColumnWeights, FoldedConv, FoldedFusion, FoldedHead
from modeling.decoder.sparse.receptive_field import ReceptiveField
from modeling.decoder.sparse.tiles import SparseMap, TileList, mask_tiles

TILE_SIDES = (16, 32, 64)  # pixels; each level uses the side with the lowest cost


class Work(NamedTuple):
    """Multiplications of the dense decoder, and those of them in active tiles.

    Attributes:
        pixels: pixels of full resolution, of a batch together.
        dense: multiplications of the dense decoder per pixel of full resolution.
        active: multiplications in active tiles per pixel of full resolution.
        share: share of the smallest tiles of full resolution that are active.
    """

    pixels: int
    dense: float
    active: float
    share: float


def is_cheaper(decoder: nn.Module, field: ReceptiveField, unknown: Tensor) -> bool:
    """Return whether `decode` is faster than the dense decoder, estimated from the share of tiles that it computes.

    On a CPU with the widths of ViTMatte-S it is faster from 256 x 256 pixels on, even if all pixels are unknown. For
    narrower networks the image must be larger or the unknown region smaller. Above the costs' `dense_limit` the result
    is always True.
    """
    costs = costs_on(unknown.device)
    if costs.dense_limit is not None and unknown.numel() > costs.dense_limit:
        return True
    work = work_of(decoder, field, unknown)
    per_pixel = costs.sparse_product * work.active + costs.sparse_pixel * work.share
    return costs.sparse_call + work.pixels * per_pixel < work.pixels * (work.dense + costs.dense_pixel)


def work_of(decoder: nn.Module, field: ReceptiveField, unknown: Tensor) -> Work:
    """Work of decoding `unknown` (B, H, W) bool, whose receptive field is `field`."""
    depth = len(decoder.convstream.convs)
    shares = torch.stack([tile_share(mask) for mask in (unknown, *field.fused[:depth], *field.details)]).tolist()
    share, fused_shares, details_shares = shares[0], shares[1 : 1 + depth], shares[1 + depth :]
    head = decoder.matting_head.matting_convs[0].weight.numel()
    last = decoder.fusion_blks[-1].conv.conv.weight.numel()
    dense, active = head + last, share * (head + last)  # multiplications per pixel of full resolution
    blocks = list(decoder.fusion_blks[:-1])[::-1]  # fine to coarse
    for level, (block, stream) in enumerate(zip(blocks, decoder.convstream.convs, strict=True)):
        products = [layer.weight.numel() / 4 ** (level + 1) for layer in (block.conv.conv, stream.conv)]
        dense += sum(products)
        active += products[0] * fused_shares[level] + products[1] * details_shares[level]
    return Work(unknown.numel(), dense, active, share)


def tile_share(mask: Tensor) -> Tensor:
    """Share of the smallest tiles with a true pixel of `mask` (B, H, W), a scalar on its device."""
    return mask_tiles(mask, TILE_SIDES[0]).float().mean()


def decode(decoder: nn.Module, features: Tensor, images: Tensor, field: ReceptiveField, unknown: Tensor) -> Tensor:
    """Alpha of a DetailCapture in eval mode where `unknown` is true, 0 elsewhere: (B, 1, H, W) float32.

    Args:
        decoder: module whose convolutions are used; it is not called.
        features, images: as in DetailCapture.forward.
        field: receptive field of `unknown`, (B, H, W) bool.
    """
    device = images.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else images.dtype
    with torch.autocast(device, enabled=False):
        details = [SparseMap.whole(images, dtype)]
        for layer, mask in zip(decoder.convstream.convs, field.details, strict=True):
            details.append(convolve_details(FoldedConv.of(layer.conv, layer.bn, dtype), details[-1], mask))
        deep = SparseMap.pixels(features, field.features, dtype)
        *coarse, last = decoder.fusion_blks
        for block, mask in zip(coarse, reversed(field.fused), strict=True):
            detail = details.pop()
            deep = fuse(FoldedFusion.of(block, detail.channels, dtype), detail, deep, mask)
        detail = details.pop()
        block, head = FoldedFusion.of(last, detail.channels, dtype), FoldedHead(decoder.matting_head, dtype)
        candidates = images[:, decoder.candidates]
        return matte(block, head, detail, deep, candidates, unknown).masked_fill(~unknown, 0)[:, None]


def convolve_details(conv: FoldedConv, finer: SparseMap, mask: Tensor) -> SparseMap:
    """Next detail map, half the size of `finer`, in the tiles that cover `mask` (B, H / 2, W / 2)."""
    tiles = cheapest_tiles(mask, conv.work)
    out = SparseMap.allocate(tiles, len(conv.bias), tuple(mask.shape[-2:]), conv.bias.dtype)
    side = 2 * tiles.side + 1

    def compute(item: tuple[int, TileList]) -> None:
        start, chunk = item
        patches = finer.patches(chunk.image, 2 * chunk.top - 1, 2 * chunk.left - 1, side)
        torch.clamp(conv(patches), min=0, out=out.tiles(start, start + len(chunk)))

    for_each(compute, chunks(tiles, conv.work(tiles.side) // len(conv.bias)), mask.device)
    return out


def fuse(block: FoldedFusion, details: SparseMap, deep: SparseMap, mask: Tensor) -> SparseMap:
    """Output of a fusion block in the tiles that cover `mask` (B, H, W)."""
    tiles = cheapest_tiles(mask, lambda side: block.work(side, halo=0))
    weights = ColumnWeights(tiles, 0, details.size[1], block.dtype)
    tiles, counts = weights.sort(tiles)
    out = SparseMap.allocate(tiles, block.out_chans, details.size, block.dtype)

    def compute(item: tuple[int, TileList, Tensor]) -> None:
        start, chunk, columns = item
        torch.clamp(block(chunk, 0, details, deep, columns), min=0, out=out.tiles(start, start + len(chunk)))

    for_each(compute, fusion_chunks(block, tiles, counts, weights), mask.device)
    return out


def matte(
    block: FoldedFusion, head: FoldedHead, details: SparseMap, deep: SparseMap, candidates: Tensor, unknown: Tensor
) -> Tensor:
    """Last fusion and head: alpha (B, H, W) in the tiles that cover `unknown` (B, H, W), 0 elsewhere.

    `candidates` (B, K, H, W) are the estimates for the head's gate; K is 0 if there are none.
    """
    height, width = details.size
    tiles = cheapest_tiles(unknown, lambda side: block.work(side, halo=1) + head.work(side))
    alpha = torch.zeros(*tiles.grid, tiles.side, tiles.side, device=unknown.device)
    weights = ColumnWeights(tiles, 1, width, block.dtype)
    others = SparseMap.whole(candidates, torch.float32) if candidates.shape[1] else None

    def compute(item: tuple[int, TileList, Tensor]) -> None:
        _, chunk, columns = item
        fused = block(chunk, 1, details, deep, columns).relu_()  # (n, side + 2, side + 2, C)
        clear_outside(fused, chunk, height, width)
        estimates = None if others is None else others.patches(chunk.image, chunk.top, chunk.left, chunk.side)
        alpha[chunk.image, chunk.row, chunk.column] = head(fused, estimates)

    for_each(compute, fusion_chunks(block, *weights.sort(tiles), weights), unknown.device)
    return alpha.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def cheapest_tiles(mask: Tensor, work: Callable[[int], int]) -> TileList:
    """Tiles that cover `mask` (B, H, W), of the side with the lowest cost, where `work`(side) is the cost of a tile."""
    choices = [mask_tiles(mask, side) for side in TILE_SIDES]
    counts = torch.stack([active.sum() for active in choices]).tolist()
    _, side, active = min(zip(counts, TILE_SIDES, choices, strict=True), key=lambda choice: choice[0] * work(choice[1]))
    return TileList.where(active, side)


def chunks(tiles: TileList, values: int) -> Iterator[tuple[int, TileList]]:
    """Yield the start and the tiles of pieces to compute together; each tile has `values` intermediate values."""
    if len(tiles) == 0:
        return
    pieces = -(-len(tiles) // max(1, costs_on(tiles.row.device).chunk_values // values))
    threads = num_threads(tiles.row.device)
    rounds = -(-pieces // threads)  # so that all threads have work until the end
    size = -(-len(tiles) // (rounds * threads))
    for start in range(0, len(tiles), size):
        yield start, tiles[start : start + size]


def fusion_chunks(
    block: FoldedFusion, tiles: TileList, counts: list[int], weights: ColumnWeights
) -> Iterator[tuple[int, TileList, Tensor]]:
    """Yield the start, the tiles and their common column weights; `tiles` and `counts` are from ColumnWeights.sort."""
    begin = 0
    for count, columns in zip(counts, weights.kinds, strict=True):
        values = 3 * columns.shape[1] ** 2 * 3 * block.out_chans  # those of the mixed pixels, the largest intermediate
        for start, chunk in chunks(tiles[begin : begin + count], values):
            yield begin + start, chunk, columns
        begin += count


def clear_outside(fused: Tensor, tiles: TileList, height: int, width: int) -> None:
    """Zero, in place, the pixels outside the map in tiles with a halo of 1, as the head's convolution requires."""
    span = torch.arange(-1, tiles.side + 1, device=fused.device)
    y, x = tiles.top[:, None] + span, tiles.left[:, None] + span
    outside_y, outside_x = (y < 0) | (y >= height), (x < 0) | (x >= width)  # (n, side + 2)
    border = outside_y.any(1) | outside_x.any(1)
    outside = outside_y[border, :, None] | outside_x[border, None, :]
    fused[border] = fused[border].masked_fill(outside[..., None], 0)
