"""Overlapping tiles with blended seams: any size in bounded memory, at the price of what a tile cannot see."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from data.images.trimap_tensors import fuse_trimap

UNKNOWN = 0.5  # of a trimap as a tensor

Predict = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class Tile(NamedTuple):
    """A rectangle of the image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """Cut the tile out of (..., H, W), as a view."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]


def predict_in_tiles(predict: Predict, inputs: Mapping[str, Tensor], size: int, overlap: int) -> dict[str, Tensor]:
    """Predict tile by tile; with a trimap, tiles without unknown pixels cost nothing.

    Where tiles overlap their predictions are averaged with weights that fall linearly to the seams, so no seam shows
    as a step.

    Args:
        predict: maps inputs of a tile to outputs (B, C, h, w) of its size.
        inputs: (B, C, H, W) each; "image", and perhaps "trimap" of 0, 0.5 and 1.
        size: side of a tile, pixels.
        overlap: of neighbouring tiles, pixels; less than half of `size`.

    Returns:
        the outputs (B, C, H, W) float32; with a trimap, alpha has its known values.
    """
    image, trimap = inputs["image"], inputs.get("trimap")
    totals: dict[str, Tensor] = {}
    weights = image.new_zeros(1, 1, *image.shape[-2:], dtype=torch.float32)
    for tile in tiles_of(*image.shape[-2:], size, overlap):
        if trimap is not None and not (tile.of(trimap) == UNKNOWN).any():
            continue
        weight = _ramp(tile, image.shape[-2:], overlap).to(weights)
        for name, part in predict({name: tile.of(x) for name, x in inputs.items()}).items():
            if name not in totals:
                totals[name] = image.new_zeros(*part.shape[:2], *image.shape[-2:], dtype=torch.float32)
            tile.of(totals[name]).addcmul_(part.float(), weight)
        tile.of(weights).add_(weight)
    weights.clamp_(min=1e-6)
    outputs = {name: total.div_(weights) for name, total in totals.items()}
    if trimap is not None and "alpha" in outputs:
        outputs["alpha"] = fuse_trimap(outputs["alpha"], trimap)
    return outputs


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
