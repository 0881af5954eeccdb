"""Trimaps: coding, quantisation, and fusion of a prediction with the known region.

In files and in numpy a trimap is uint8: 0 background, 128 unknown, 255 foreground. `data.images.trimap_tensors` has the
functions for tensors. This module does not need torch, so scoring starts fast and its processes stay small. OpenCV is
imported only where trimaps are made, so that ONNX files run without it.
"""

import numpy as np

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
UNKNOWN_FROM, FOREGROUND_FROM = 85, 170  # ViTMatte's thresholds, thirds of 255, which tolerate 127 and soft edges


def quantise_trimap(trimap: np.ndarray) -> np.ndarray:
    """Snap (..., H, W) uint8 gray values to exactly 0 (below 85), 128 (below 170) and 255 (the rest).

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
    """Make a trimap by eroding the opaque and the transparent regions of a true matte.

    This is the GenMask rule of Li and Lu, "Natural Image Matting via Guided Contextual Attention".

    Args:
        alpha: (H, W) float in [0, 1].
        foreground_erosion, background_erosion: side in pixels of the elliptic structuring element; 1 for no erosion.
        tolerance: largest distance of alpha from 1 (or 0) at which a pixel counts as opaque (or transparent).
        step: spacing of the rows and columns of a matte that `alpha` consists of. The elements are sampled in the same
            way, so a pixel that is unknown here is also unknown in the trimap of the whole matte. The reverse may not
            hold.

    Returns:
        (H, W) uint8 trimap.

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
    import cv2

    centre = side // 2
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))[centre % step :: step, centre % step :: step]
    return cv2.erode(mask, np.ascontiguousarray(ellipse))  # OpenCV's anchor, the middle, is the sampled centre
