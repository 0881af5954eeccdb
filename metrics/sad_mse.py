"""SAD, MSE and what follows from them: sum and mean of absolute differences, mean squared error, PSNR.

All rest on sums of integers divided once at the end, so that SAD, MAD and MSE are correctly rounded.
SAD and MSE follow the Composition-1k convention of Xu et al., "Deep Image Matting", CVPR 2017 (`compute_sad_loss`,
`compute_mse_loss`). MAD is SAD per scored pixel, as trimap-free and video methods report it; PSNR is scikit-image's.
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


def mad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean absolute difference of the mattes as fractions in [0, 1]; NaN when no pixel is scored.

    Plain, not in the thousandths that tables print. Arguments and errors are those of `sad`.
    """
    return mad_of(matte_pair(pred_alpha, alpha, trimap))


def mse(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean squared difference of the mattes as fractions in [0, 1]; NaN when no pixel is scored.

    Plain, not in the thousandths that tables print. Arguments and errors are those of `sad`.
    """
    return mse_of(matte_pair(pred_alpha, alpha, trimap))


def psnr(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio 10 log10(1 / MSE), in dB, at least 0.

    Infinite when the scored pixels are identical, NaN when there are none. Over the whole region it is
    `skimage.metrics.peak_signal_noise_ratio` with a data range of 255. Arguments and errors are those of `sad`.
    """
    return psnr_of(matte_pair(pred_alpha, alpha, trimap))


def sad_of(pair: MattePair) -> float:
    """`sad` of arrays that are already checked."""
    return _sum_of_differences(pair) / (255 * 1000)


def mad_of(pair: MattePair) -> float:
    """`mad` of arrays that are already checked."""
    if pair.pixels == 0:
        return math.nan
    return _sum_of_differences(pair) / (255 * pair.pixels)


def mse_of(pair: MattePair) -> float:
    """`mse` of arrays that are already checked."""
    if pair.pixels == 0:
        return math.nan
    squares = cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L2SQR, pair.unknown)
    # An integer below 2^53, but some of OpenCV's paths return the square of its rounded root.
    return round(squares) / (255**2 * pair.pixels)


def psnr_of(pair: MattePair) -> float:
    """`psnr` of arrays that are already checked."""
    error = mse_of(pair)
    return math.inf if error == 0 else 10 * math.log10(1 / error)


def _sum_of_differences(pair: MattePair) -> float:
    """Return the sum of |p - a| over the scored pixels in gray levels, an integer below 2^53."""
    return cv2.norm(pair.pred_alpha, pair.alpha, cv2.NORM_L1, pair.unknown)
