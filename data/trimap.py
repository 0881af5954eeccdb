"""Trimaps: their coding, their one quantisation rule, and fusing a prediction with what they say is known.

On disk and in numpy a trimap is uint8: 0 background, 128 unknown, 255 foreground. In tensors it is float: 0, 0.5, 1.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
UNKNOWN_FROM, FOREGROUND_FROM = 85, 170  # ViTMatte's thresholds: thirds of 255, so 127 and soft edges are safe


def quantise_trimap(trimap: np.ndarray) -> np.ndarray:
    """Snap (..., H, W) uint8 gray values to exactly 0, 128 and 255: below 85, below 170, and the rest."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[:UNKNOWN_FROM] = BACKGROUND
    table[FOREGROUND_FROM:] = FOREGROUND
    return table[trimap]


def quantise_trimap_tensor(trimap: Tensor) -> Tensor:
    """The rule of `quantise_trimap` for a (B, 1, H, W) tensor: float32 of exactly 0, 0.5 and 1.

    An integer tensor, or one holding a value above 1, is read on the scale 0..255; otherwise on 0..1. The
    argument is left as it was.
    """
    on_disk_scale = not trimap.is_floating_point() or bool((trimap > 1).any())
    levels = trimap.float() if on_disk_scale else trimap.float() * 255
    return 0.5 * (levels >= UNKNOWN_FROM).float() + 0.5 * (levels >= FOREGROUND_FROM).float()


def trimap_to_tensor(trimap: np.ndarray) -> Tensor:
    """Turn an (H, W) uint8 trimap into a (1, H, W) float tensor of 0, 0.5 and 1."""
    return quantise_trimap_tensor(torch.from_numpy(np.ascontiguousarray(trimap))[None])


def tensor_to_trimap(trimap: Tensor) -> np.ndarray:
    """The inverse of `trimap_to_tensor`: (1, H, W) of 0, 0.5 and 1 to (H, W) uint8."""
    levels = np.array([BACKGROUND, UNKNOWN, FOREGROUND], np.uint8)
    return levels[(trimap[0] * 2).round().long().numpy()]


def trimap_from_alpha(
    alpha: np.ndarray, foreground_erosion: int, background_erosion: int, tolerance: float = 1e-5
) -> np.ndarray:
    """Make a trimap by eroding the surely opaque and the surely transparent regions of a true matte.

    Args:
        alpha: (H, W) float in [0, 1].
        foreground_erosion, background_erosion: side of the elliptic structuring element, pixels; 1 leaves as is.
        tolerance: how far from 1 (or 0) alpha may be and still count as opaque (or transparent).

    Returns:
        (H, W) uint8 trimap. The GenMask rule of Li and Lu, "Natural Image Matting via Guided Contextual Attention".
    """
    opaque = (alpha >= 1 - tolerance).astype(np.uint8)
    transparent = (alpha <= tolerance).astype(np.uint8)
    trimap = np.full(alpha.shape, UNKNOWN, np.uint8)
    trimap[_erode(transparent, background_erosion) > 0] = BACKGROUND
    trimap[_erode(opaque, foreground_erosion) > 0] = FOREGROUND
    return trimap


def fuse_with_trimap(alpha: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 `alpha` with 0 and 255 written where `trimap` (0, 128, 255) says it is known."""
    return np.where(trimap == UNKNOWN, alpha, trimap)


def _erode(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
