"""Fringe: the remains of the old background in a cut-out, as seen over new backgrounds.

A cut-out consists of alpha and the colours F of the foreground, where image = alpha * F + (1 - alpha) * B. Where alpha
is soft, the colours of the picture still contain the old background B, which shows as a fringe over a new one. The
error over a new background N is |alpha' F' + (1 - alpha') N - alpha F - (1 - alpha) N|, where ' marks estimates. With
the true alpha it is alpha |F' - F| for every N. Otherwise it is convex in N, so its maximum is at black or white.
"""

import math

import numpy as np

from data.images.trimap import UNKNOWN

NEW_BACKGROUNDS = (0, 255)  # gray levels, black and white


def fringe(
    pred_foreground: np.ndarray,
    foreground: np.ndarray,
    alpha: np.ndarray,
    trimap: np.ndarray | None = None,
    pred_alpha: np.ndarray | None = None,
) -> float:
    """Mean absolute difference of the composites of two cut-outs, over black and over white, in gray levels of 255.

    Args:
        pred_foreground, foreground: (H, W, 3) uint8, or floats of gray levels, not premultiplied.
        alpha: true alpha, (H, W) uint8.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.
        pred_alpha: alpha of the estimated cut-out, (H, W) uint8; None for the true alpha, which measures the error of
            the colours only: the mean of alpha |F' - F|.

    Returns:
        From 0 to 255, the mean over scored pixels, three channels and the two backgrounds; NaN if no pixel is scored.

    Raises:
        ValueError: shapes are not as above.

    Example:
        >>> alpha = np.full((2, 2), 51, np.uint8)  # a fifth
        >>> fringe(np.full((2, 2, 3), 140), np.full((2, 2, 3), 100), alpha)
        8.0
    """
    pred_alpha = alpha if pred_alpha is None else pred_alpha
    shapes = {
        "pred_foreground": (pred_foreground, (*alpha.shape, 3)),
        "foreground": (foreground, (*alpha.shape, 3)),
        "pred_alpha": (pred_alpha, alpha.shape),
        "trimap": (alpha if trimap is None else trimap, alpha.shape),
    }
    for name, (array, shape) in shapes.items():
        if array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    scored = np.ones(alpha.shape, bool) if trimap is None else trimap == UNKNOWN
    if not scored.any():
        return math.nan
    pred_weight, weight = (matte[scored].astype(np.float64)[:, None] / 255 for matte in (pred_alpha, alpha))  # (N, 1)
    over_black = pred_weight * pred_foreground[scored] - weight * foreground[scored]  # (N, 3)
    differences = [over_black - level * (pred_weight - weight) for level in NEW_BACKGROUNDS]
    return float(np.mean(np.abs(differences)))
