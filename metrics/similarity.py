"""SSIM: similarity of the mattes in brightness, contrast and structure, window by window.

The metric is that of Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
Transactions on Image Processing 2004, with the paper's settings: an 11 x 11 Gaussian window with a standard deviation
of 1.5 pixels, K1 = 0.01 and K2 = 0.03.
"""

import math

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair, scored_boxes

SIGMA = 1.5
RADIUS = 5
K1, K2 = 0.01, 0.03
STRIP_ROWS = 64  # rows at once: the float64 intermediates fit in the cache, and memory is bounded


def ssim(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean structural similarity index of the mattes, in [-1, 1]; 1 if they are identical.

    The mean is over the scored pixels whose window is inside the image, at least 5 pixels from its border, and NaN if
    there are none. The windows use the whole image, so known pixels within 5 pixels of scored ones affect the result.
    Over the whole region it equals `skimage.metrics.structural_similarity` with `gaussian_weights=True`, `sigma=1.5`,
    `use_sample_covariance=False` and a data range of 255, which are the settings of the paper.

    Args:
        pred_alpha, alpha: (H, W) uint8, or uint16 on the scale of 65535.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> alpha = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
        >>> ssim(alpha, alpha)
        1.0
    """
    return ssim_of(matte_pair(pred_alpha, alpha, trimap))


def ssim_of(pair: MattePair) -> float:
    """`ssim` of arrays that have been checked."""
    total, count = 0.0, 0
    for rows, columns in scored_boxes(pair, STRIP_ROWS, margin=RADIUS):
        index = _index_map(pair, rows, columns)
        if pair.unknown is None:
            count += index.size
        else:
            unknown = pair.unknown[rows, columns]
            index = cv2.copyTo(index, unknown)  # zero elsewhere
            count += cv2.countNonZero(unknown)
        total += float(index.sum())
    return total / count if count else math.nan


def _index_map(pair: MattePair, rows: slice, columns: slice) -> np.ndarray:
    """Index at every pixel of a box that is at least `RADIUS` from the border of the image, float64."""
    crop = slice(rows.start - RADIUS, rows.stop + RADIUS), slice(columns.start - RADIUS, columns.stop + RADIUS)
    p, a = pair.pred_alpha[crop].astype(np.float64), pair.alpha[crop].astype(np.float64)
    p_mean, a_mean = _window_means(p), _window_means(a)
    products, squares = p_mean * a_mean, p_mean**2 + a_mean**2
    covariance = _window_means(p * a) - products
    variances = _window_means(p**2 + a**2) - squares
    c1, c2 = (K1 * pair.opaque) ** 2, (K2 * pair.opaque) ** 2
    return (2 * products + c1) / (squares + c1) * (2 * covariance + c2) / (variances + c2)


def _window_means(image: np.ndarray) -> np.ndarray:
    """(H - 10, W - 10) float64 weighted means over the 11 x 11 windows inside the image."""
    kernel = cv2.getGaussianKernel(2 * RADIUS + 1, SIGMA, cv2.CV_64F)
    return cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)[RADIUS:-RADIUS, RADIUS:-RADIUS]
