"""SAD and MSE: sum of absolute differences and mean squared error.

Both are sums of integers divided once at the end, so they are correctly rounded.
The Composition-1k convention of Xu et al., "Deep Image Matting", CVPR 2017 (`compute_sad_loss`, `compute_mse_loss`).
"""

import math

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair


def sad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of absolute differences of the mattes as fractions in [0, 1], in thousands.

    Args:
        pred_alpha, alpha: (H, W) uint8.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.
    """
    return sad_of(matte_pair(pred_alpha, alpha, trimap))


def mse(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean squared difference of the mattes as fractions in [0, 1]; NaN when no pixel is scored.

    Plain, not in the thousandths that tables print. Arguments and errors are those of `sad`.
    """
    return mse_of(matte_pair(pred_alpha, alpha, trimap))


def sad_of(pair: MattePair) -> float:
    """`sad` of arrays that are already checked."""
    return cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L1, pair.unknown) / (255 * 1000)


def mse_of(pair: MattePair) -> float:
    """`mse` of arrays that are already checked."""
    if pair.pixels == 0:
        return math.nan
    squares = cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L2SQR, pair.unknown)
    # An integer below 2^53, but some of OpenCV's paths return the square of its rounded root.
    return round(squares) / (255**2 * pair.pixels)
