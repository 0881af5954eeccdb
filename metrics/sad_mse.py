"""SAD, MSE, MAD and PSNR: sum and mean of absolute differences, mean squared error, peak signal-to-noise ratio.

All are computed from sums of integers with one division at the end, so SAD, MAD and MSE of 8-bit mattes are correctly
rounded. SAD and MSE follow the Composition-1k convention of Xu et al., "Deep Image Matting", CVPR 2017
(`compute_sad_loss`, `compute_mse_loss`). MAD is SAD per scored pixel, as trimap-free and video methods report it. PSNR
is scikit-image's.
"""

import math

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair


def sad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of absolute differences of the mattes as fractions in [0, 1], in thousands.

    Args:
        pred_alpha, alpha: (H, W) uint8, or uint16 on the scale of 65535.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> alpha = np.full((4, 4), 255, np.uint8)
        >>> trimap = np.zeros((4, 4), np.uint8)
        >>> trimap[:2] = 128
        >>> sad(np.zeros((4, 4), np.uint8), alpha, trimap)  # 8 unknown pixels, each wrong by 1
        0.008
    """
    return sad_of(matte_pair(pred_alpha, alpha, trimap))


def mad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean absolute difference of the mattes as fractions in [0, 1]; NaN if no pixel is scored.

    The plain mean, not in the thousandths of printed tables. Arguments and errors are those of `sad`.

    Example:
        >>> mad(np.full((2, 2), 51, np.uint8), np.zeros((2, 2), np.uint8))
        0.2
    """
    return mad_of(matte_pair(pred_alpha, alpha, trimap))


def mse(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean squared difference of the mattes as fractions in [0, 1]; NaN if no pixel is scored.

    The plain mean, not in the thousandths of printed tables. Arguments and errors are those of `sad`.

    Example:
        >>> mse(np.full((2, 2), 51, np.uint8), np.zeros((2, 2), np.uint8))
        0.04
    """
    return mse_of(matte_pair(pred_alpha, alpha, trimap))


def psnr(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio 10 log10(1 / MSE), in dB, at least 0.

    It is infinite if the scored pixels are identical, and NaN if there are none. Over the whole region it equals
    `skimage.metrics.peak_signal_noise_ratio` with a data range of 255. Arguments and errors are those of `sad`.

    Example:
        >>> psnr(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
        0.0
    """
    return psnr_of(matte_pair(pred_alpha, alpha, trimap))


def sad_of(pair: MattePair) -> float:
    """`sad` of arrays that have been checked."""
    return _sum_of_differences(pair) / (pair.opaque * 1000)


def mad_of(pair: MattePair) -> float:
    """`mad` of arrays that have been checked."""
    if pair.pixels == 0:
        return math.nan
    return _sum_of_differences(pair) / (pair.opaque * pair.pixels)


def mse_of(pair: MattePair) -> float:
    """`mse` of arrays that have been checked."""
    if pair.pixels == 0:
        return math.nan
    squares = cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L2SQR, pair.unknown)
    # The sum is an integer, of 8-bit mattes below 2^53, but some paths of OpenCV return the square of its rounded root.
    return round(squares) / (pair.opaque**2 * pair.pixels)


def psnr_of(pair: MattePair) -> float:
    """`psnr` of arrays that have been checked."""
    error = mse_of(pair)
    return math.inf if error == 0 else 10 * math.log10(1 / error)


def _sum_of_differences(pair: MattePair) -> float:
    """Sum of |p - a| over the scored pixels in the mattes' own levels, an integer below 2^53."""
    return cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L1, pair.unknown)
