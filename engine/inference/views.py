"""Test-time augmentation: predict several views of an image and average what they say."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.trimap_tensors import resize_trimap_tensor

Predict = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """A mirrored and resized version of the input.

    Attributes:
        flip: mirror left and right.
        scale: of both sides.
    """

    flip: bool = False
    scale: float = 1.0


VIEWS = {
    "none": (View(),),
    "flip": (View(), View(flip=True)),
    "flip+scale": tuple(View(flip, scale) for scale in (1.0, 0.75, 1.25) for flip in (False, True)),
}


def predict_views(predict: Predict, image: Tensor, trimap: Tensor, views: tuple[View, ...]) -> Tensor:
    """Average the predictions of the views, each turned back to the image's frame.

    Args:
        predict: maps image (B, 3, h, w) and trimap (B, 1, h, w) to alpha (B, 1, h, w).
        image: (B, 3, H, W) float in [0, 1].
        trimap: (B, 1, H, W) of 0, 0.5 and 1.

    Returns:
        (B, 1, H, W) float32 in [0, 1].
    """
    if views == (View(),):
        return predict(image, trimap).float()
    total = torch.zeros_like(trimap, dtype=torch.float32)
    for view in views:
        total += _turned_back(predict(*_seen(image, trimap, view)).float(), view, image.shape[-2:])
    return total / len(views)


def _seen(image: Tensor, trimap: Tensor, view: View) -> tuple[Tensor, Tensor]:
    if view.scale != 1:
        size = [max(1, round(side * view.scale)) for side in image.shape[-2:]]
        image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
        trimap = resize_trimap_tensor(trimap, size)
    if view.flip:
        image, trimap = image.flip(-1), trimap.flip(-1)
    return image, trimap


def _turned_back(alpha: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    if view.flip:
        alpha = alpha.flip(-1)
    if view.scale != 1:
        alpha = F.interpolate(alpha, size=size, mode="bicubic", antialias=view.scale > 1).clamp(0, 1)
    return alpha
