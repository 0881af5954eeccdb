"""What every metric is given: a prediction, the truth, and the pixels that count."""

from typing import NamedTuple

import cv2
import numpy as np

from data.trimap import UNKNOWN


class MattePair(NamedTuple):
    """A checked prediction and truth, with the region they are scored in.

    Attributes:
        pred_alpha, alpha: (H, W) uint8, contiguous.
        unknown: (H, W) uint8, nonzero where pixels count; None when all do.
        pixels: how many pixels count.
    """

    pred_alpha: np.ndarray
    alpha: np.ndarray
    unknown: np.ndarray | None
    pixels: int


def matte_pair(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> MattePair:
    """Check the arrays and find the region to score.

    Args:
        pred_alpha, alpha: (H, W) uint8.
        trimap: (H, W) uint8; the pixels of value 128, and no other, are scored. None scores every pixel.

    Raises:
        ValueError: an array is not 2-D uint8, is empty, or differs in shape from the prediction.
    """
    arrays = {"pred_alpha": pred_alpha, "alpha": alpha}
    if trimap is not None:
        arrays["trimap"] = trimap
    for name, array in arrays.items():
        _check(name, array, pred_alpha)
    pred_alpha, alpha = np.ascontiguousarray(pred_alpha), np.ascontiguousarray(alpha)
    if trimap is None:
        return MattePair(pred_alpha, alpha, None, alpha.size)
    unknown = (np.ascontiguousarray(trimap) == UNKNOWN).view(np.uint8)
    return MattePair(pred_alpha, alpha, unknown, cv2.countNonZero(unknown))


def _check(name: str, array: np.ndarray, pred_alpha: np.ndarray) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2:
        came = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name}: expected an (H, W) uint8 array, the 8-bit matte as saved, got {came}")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one pixel, got shape {array.shape}")
    if array.shape != pred_alpha.shape:
        raise ValueError(f"{name}: expected shape {pred_alpha.shape} like pred_alpha, got {array.shape}")
