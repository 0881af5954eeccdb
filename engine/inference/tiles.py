"""Overlapping tiles with blended seams: any size in bounded memory, at the price of what a tile cannot see."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

UNKNOWN = 0.5

Predict = Callable[[Tensor, Tensor], Tensor]


class Tile(NamedTuple):
    """A rectangle of the image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """Cut the tile out of (..., H, W), as a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


def predict_in_tiles(predict: Predict, image: Tensor, trimap: Tensor, size: int, overlap: int) -> Tensor:
    """Predict alpha tile by tile; tiles without unknown pixels cost nothing.

    Where tiles overlap their predictions are averaged with weights that fall linearly to the seams, so no seam shows
    as a step.

    Args:
        predict: maps image (B, 3, h, w) and trimap (B, 1, h, w) to alpha (B, 1, h, w).
        image: (B, 3, H, W) float in [0, 1].
        trimap: (B, 1, H, W) of 0, 0.5 and 1.
        size: side of a tile, pixels.
        overlap: of neighbouring tiles, pixels; less than half of `size`.

    Returns:
        (B, 1, H, W) float32: the known values of the trimap, and the prediction in the unknown region.
    """
    total = torch.zeros_like(trimap, dtype=torch.float32)
    weights = torch.zeros_like(total[:1])
    for tile in tiles_of(*image.shape[-2:], size, overlap):
        part = tile.of(trimap)
        if not (part == UNKNOWN).any():
            continue
        weight = _ramp(tile, image.shape[-2:], overlap).to(total)
        tile.of(total).addcmul_(predict(tile.of(image), part).float(), weight)
        tile.of(weights).add_(weight)
    blended = total.div_(weights.clamp_(min=1e-6))
    return torch.where(trimap == UNKNOWN, blended, trimap.float())


def tiles_of(height: int, width: int, size: int, overlap: int) -> Iterator[Tile]:
    """Yield tiles of `size`, or the image's side if that is less, that cover it and overlap by `overlap` or more."""
    for (top, tile_height), (left, tile_width) in product(_spans(height, size, overlap), _spans(width, size, overlap)):
        yield Tile(top, left, tile_height, tile_width)


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Return (start, length) of equal spans, evenly spaced from one end to the other."""
    if length <= size:
        return [(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    return [(round(index * (length - size) / (count - 1)), size) for index in range(count)]


def _ramp(tile: Tile, image_size: tuple[int, int], overlap: int) -> Tensor:
    """Weights (1, 1, h, w) in (0, 1]: falling to the tile's sides, but not where the image itself ends."""
    rows = _fade(tile.height, overlap, tile.top > 0, tile.top + tile.height < image_size[0])
    columns = _fade(tile.width, overlap, tile.left > 0, tile.left + tile.width < image_size[1])
    return (rows[:, None] * columns)[None, None]


def _fade(length: int, overlap: int, at_start: bool, at_end: bool) -> Tensor:
    position = torch.arange(length) + 0.5
    weight = torch.ones(length)
    if at_start:
        weight = torch.minimum(weight, position / overlap)
    if at_end:
        weight = torch.minimum(weight, (length - position) / overlap)
    return weight
