"""Test-time augmentation: the average of the predictions for several views of an image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from data.images.trimap_tensors import resize_trimap_tensor

Predict = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class View:
    """A mirrored and resized version of the input.

    Attributes:
        flip: whether left and right are exchanged.
        scale: factor of both sides.
    """

    flip: bool = False
    scale: float = 1.0


VIEWS = {
    "none": (View(),),
    "flip": (View(), View(flip=True)),
    "flip+scale": tuple(View(flip, scale) for scale in (1.0, 0.75, 1.25) for flip in (False, True)),
}


def predict_views(
    predict: Predict, inputs: Mapping[str, Tensor], views: tuple[View, ...], min_side: int = 1
) -> dict[str, Tensor]:
    """Average the predictions of the views, each turned back to the image's frame.

    Args:
        predict: function from inputs to outputs (B, C, h, w) of their size.
        inputs: (B, C, H, W) each: "image" float in [0, 1] and, if the system reads it, "trimap" of 0, 0.5 and 1.
        min_side: shortest side that `predict` accepts; reduced views with a shorter side are left out.

    Returns:
        the outputs (B, C, H, W) float32.
    """
    if views == (View(),):
        return {name: output.float() for name, output in predict(inputs).items()}
    size = inputs["image"].shape[-2:]
    views = tuple(view for view in views if view.scale >= 1 or min(_size(size, view)) >= min_side)
    totals: dict[str, Tensor] = {}
    for view in views:
        for name, output in predict(_seen(inputs, view)).items():
            turned = _turned_back(output.float(), view, size)
            totals[name] = totals[name] + turned if name in totals else turned
    return {name: total / len(views) for name, total in totals.items()}


def _seen(inputs: Mapping[str, Tensor], view: View) -> dict[str, Tensor]:
    seen = dict(inputs)
    if view.scale != 1:
        size = _size(inputs["image"].shape[-2:], view)
        seen["image"] = F.interpolate(inputs["image"], size=size, mode="bilinear", antialias=True)
        if "trimap" in inputs:
            seen["trimap"] = resize_trimap_tensor(inputs["trimap"], size)
    return {name: x.flip(-1) for name, x in seen.items()} if view.flip else seen


def _size(size: Sequence[int], view: View) -> list[int]:
    return [max(1, round(side * view.scale)) for side in size]


def _turned_back(output: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    if view.flip:
        output = output.flip(-1)
    if view.scale != 1:
        output = F.interpolate(output, size=size, mode="bicubic", antialias=view.scale > 1).clamp(0, 1)
    return output
