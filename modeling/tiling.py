"""Overlapping tiles of an image, and the weights that blend their predictions."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """A rectangle of the image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """Cut the tile out of (..., H, W), as a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


def tiles_of(height: int, width: int, size: int, overlap: int, multiple: int = 1) -> Iterator[Tile]:
    """Yield tiles that cover the image, with sides of at most `size` and an overlap of at least `overlap`.

    Args:
        multiple: multiple for the tiles' first rows and columns; `size` and `overlap` must be multiples too. The last
            tiles then end with the image and may be smaller.
    """
    rows, columns = _spans(height, size, overlap, multiple), _spans(width, size, overlap, multiple)
    for (top, tile_height), (left, tile_width) in product(rows, columns):
        yield Tile(top, left, tile_height, tile_width)


def ramp(tile: Tile, image_size: tuple[int, int], overlap: int) -> Tensor:
    """Weights (1, 1, h, w) in (0, 1] that fall towards the sides of the tile, except at the borders of the image."""
    rows = _fade(tile.height, overlap, tile.top > 0, tile.top + tile.height < image_size[0])
    columns = _fade(tile.width, overlap, tile.left > 0, tile.left + tile.width < image_size[1])
    return (rows[:, None] * columns)[None, None]


def _spans(length: int, size: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """(start, length) of spans, evenly spaced from one end to the other."""
    if length <= size:
        return [(0, length)]
    steps = -(-length // multiple)
    tile_steps, overlap_steps = size // multiple, overlap // multiple
    count = max(2, -(-(steps - overlap_steps) // (tile_steps - overlap_steps)))
    starts = [multiple * round(index * (steps - tile_steps) / (count - 1)) for index in range(count)]
    return [(start, min(size, length - start)) for start in starts]


def _fade(length: int, overlap: int, at_start: bool, at_end: bool) -> Tensor:
    position = torch.arange(length) + 0.5
    weight = torch.ones(length)
    if at_start:
        weight = torch.minimum(weight, position / overlap)
    if at_end:
        weight = torch.minimum(weight, (length - position) / overlap)
    return weight
