"""Trimaps as float tensors of 0 (background), 0.5 (unknown) and 1 (foreground)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.trimap import BACKGROUND, FOREGROUND, FOREGROUND_FROM, UNKNOWN, UNKNOWN_FROM


def quantise_trimap_tensor(trimap: Tensor) -> Tensor:
    """Quantise a (B, 1, H, W) tensor like `quantise_trimap`, to float32 of exactly 0, 0.5 and 1.

    Integers are read on the scale 0..255 and floats on 0..1. Floats may exceed this range after resizing. The argument
    is not changed.
    """
    levels = trimap.float() * 255 if trimap.is_floating_point() else trimap
    halves = (levels >= UNKNOWN_FROM).float()  # the following steps are in place, to limit copies of huge images
    halves += levels >= FOREGROUND_FROM
    return halves.mul_(0.5)


def trimap_to_tensor(trimap: np.ndarray) -> Tensor:
    """Convert an (H, W) uint8 trimap to a (1, H, W) float tensor of 0, 0.5 and 1."""
    return quantise_trimap_tensor(torch.from_numpy(np.ascontiguousarray(trimap))[None])


def fuse_trimap(alpha: Tensor, trimap: Tensor) -> Tensor:
    """Return alpha (B, 1, H, W) in the unknown region and the trimap's 0 and 1 elsewhere.

    The trimap has exactly 0, 0.5 and 1.
    """
    return torch.where(trimap == 0.5, alpha, trimap.to(alpha.dtype))


def tensor_to_trimap(trimap: Tensor) -> np.ndarray:
    """Convert (1, H, W) of 0, 0.5 and 1 to (H, W) uint8; the inverse of `trimap_to_tensor`."""
    levels = np.array([BACKGROUND, UNKNOWN, FOREGROUND], np.uint8)
    return levels[(trimap[0] * 2).long().cpu().numpy()]


def resize_trimap_tensor(trimap: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a (B, 1, H, W) trimap of 0, 0.5 and 1 to (B, 1, *size). A pixel is known if all its sources agree."""
    other_than_foreground, other_than_background = (  # a weighted sum of zeros is exact, of ones it may be 0.99999994
        F.interpolate((trimap != value).float(), size=size, mode="bilinear", antialias=True) for value in (1, 0)
    )
    known = (other_than_foreground == 0).float()
    return torch.where((other_than_foreground == 0) | (other_than_background == 0), known, 0.5)
