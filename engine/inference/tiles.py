"""Overlapping tiles with blended seams: images of any size in bounded memory, but no tile sees the whole image."""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.images.trimap_tensors import fuse_trimap
from engine.inference.views import Predict
from modeling.tiling import ramp, tiles_of


def predict_in_tiles(
    predict: Predict, inputs: Mapping[str, Tensor], size: int, overlap: int, multiple: int = 1
) -> dict[str, Tensor]:
    """Predict tile by tile. With a trimap, tiles without unknown pixels are skipped.

    Where tiles overlap, their predictions are averaged. The weights fall linearly to the seams, so no seam is visible
    as a step.

    Args:
        predict: function from the inputs of a tile to outputs (B, C, h, w) of its size.
        inputs: (B, C, H, W) each: "image" and, if the system reads it, "trimap" of 0, 0.5 and 1.
        size: side of a tile in pixels.
        overlap: overlap of neighbouring tiles in pixels, less than half of `size`.
        multiple: common divisor of the tiles' first rows and columns; it also divides `size` and `overlap`.

    Returns:
        the outputs (B, C, H, W) float32; with a trimap, alpha has its known values.
    """
    image, trimap = inputs["image"], inputs.get("trimap")
    totals: dict[str, Tensor] = {}
    weights = image.new_zeros(1, 1, *image.shape[-2:], dtype=torch.float32)
    for tile in tiles_of(*image.shape[-2:], size, overlap, multiple):
        if trimap is not None and not (tile.of(trimap) == 0.5).any():
            continue
        weight = ramp(tile, image.shape[-2:], overlap).to(weights)
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
