"""Trimaps as tensors: float, 0 background, 0.5 unknown, 1 foreground, quantised as `data.images.trimap` does."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.trimap import BACKGROUND, FOREGROUND, FOREGROUND_FROM, UNKNOWN, UNKNOWN_FROM


def quantise_trimap_tensor(trimap: Tensor) -> Tensor:
    """The rule of `quantise_trimap` for a (B, 1, H, W) tensor: float32 of exactly 0, 0.5 and 1.

    An integer tensor, or one holding a value above 1, is read on the scale 0..255; otherwise on 0..1. The
    argument is left as it was.
    """
    on_disk_scale = not trimap.is_floating_point() or bool((trimap > 1).any())
    levels = trimap.float() if on_disk_scale else trimap.float() * 255
    halves = (levels >= UNKNOWN_FROM).float()  # in place from here on: huge images are held in few copies
    halves += levels >= FOREGROUND_FROM
    return halves.mul_(0.5)


def trimap_to_tensor(trimap: np.ndarray) -> Tensor:
    """Turn an (H, W) uint8 trimap into a (1, H, W) float tensor of 0, 0.5 and 1."""
    return quantise_trimap_tensor(torch.from_numpy(np.ascontiguousarray(trimap))[None])


def tensor_to_trimap(trimap: Tensor) -> np.ndarray:
    """The inverse of `trimap_to_tensor`: (1, H, W) of 0, 0.5 and 1 to (H, W) uint8."""
    levels = np.array([BACKGROUND, UNKNOWN, FOREGROUND], np.uint8)
    return levels[(trimap[0] * 2).round().long().numpy()]


def resize_trimap_tensor(trimap: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a (B, 1, H, W) trimap of 0, 0.5 and 1 to (B, 1, *size): a pixel is known only if all it is made of is."""
    other_than_foreground, other_than_background = (  # of zeros alone the sum is exact; of ones it may be 0.99999994
        F.interpolate((trimap != value).float(), size=size, mode="bilinear", antialias=True) for value in (1, 0)
    )
    known = (other_than_foreground == 0).float()
    return torch.where((other_than_foreground == 0) | (other_than_background == 0), known, 0.5)
