"""Trimaps: their coding, their one quantisation rule, and fusing a prediction with what they say is known.

On disk and in numpy a trimap is uint8: 0 background, 128 unknown, 255 foreground; for tensors see
`data.images.trimap_tensors`. Nothing here needs torch, so scoring starts fast and its processes stay small.
"""

import cv2
import numpy as np

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
UNKNOWN_FROM, FOREGROUND_FROM = 85, 170  # ViTMatte's thresholds: thirds of 255, so 127 and soft edges are safe


def quantise_trimap(trimap: np.ndarray) -> np.ndarray:
    """Snap (..., H, W) uint8 gray values to exactly 0, 128 and 255: below 85, below 170, and the rest.

    Example:
        >>> quantise_trimap(np.array([[3, 127, 250]], np.uint8)).tolist()
        [[0, 128, 255]]
    """
    table = np.full(256, UNKNOWN, np.uint8)
    table[:UNKNOWN_FROM] = BACKGROUND
    table[FOREGROUND_FROM:] = FOREGROUND
    return table[trimap]


def trimap_from_alpha(
    alpha: np.ndarray, foreground_erosion: int, background_erosion: int, tolerance: float = 1e-5, step: int = 1
) -> np.ndarray:
    """Make a trimap by eroding the surely opaque and the surely transparent regions of a true matte.

    Args:
        alpha: (H, W) float in [0, 1].
        foreground_erosion, background_erosion: side of the elliptic structuring element, pixels; 1 leaves as is.
        tolerance: how far from 1 (or 0) alpha may be and still count as opaque (or transparent).
        step: `alpha` is every step-th row and column of a matte. Of the elements those rows and columns count, so what
            is unknown here is unknown in the trimap of the whole matte, which may have more of it.

    Returns:
        (H, W) uint8 trimap. The GenMask rule of Li and Lu, "Natural Image Matting via Guided Contextual Attention".

    Example:
        >>> alpha = np.array([[0, 0, 0, 0.5, 1, 1, 1]])
        >>> trimap_from_alpha(alpha, foreground_erosion=3, background_erosion=3).tolist()
        [[0, 0, 128, 128, 128, 255, 255]]
    """
    opaque = (alpha >= 1 - tolerance).astype(np.uint8)
    transparent = (alpha <= tolerance).astype(np.uint8)
    foreground, background = _erode(opaque, foreground_erosion, step), _erode(transparent, background_erosion, step)
    return UNKNOWN + foreground * np.uint8(FOREGROUND - UNKNOWN) - background * np.uint8(UNKNOWN - BACKGROUND)


def fuse_with_trimap(alpha: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 `alpha` with 0 and 255 in the known region of `trimap` (0, 128, 255).

    Example:
        >>> fuse_with_trimap(np.array([[9, 90, 240]], np.uint8), np.array([[0, 128, 255]], np.uint8)).tolist()
        [[0, 90, 255]]
    """
    return np.where(trimap == UNKNOWN, alpha, trimap)


def _erode(mask: np.ndarray, side: int, step: int) -> np.ndarray:
    centre = side // 2
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))[centre % step :: step, centre % step :: step]
    return cv2.erode(mask, np.ascontiguousarray(ellipse), anchor=(centre // step, centre // step))
