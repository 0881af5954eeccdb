"""SSIM: similarity of the mattes in brightness, contrast and structure, window by window.

The metric is that of Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
Transactions on Image Processing 2004, with the defaults of scikit-image's `structural_similarity`: a uniform 7 x 7
window instead of the paper's Gaussian, and sample variances with the factor 49 / 48.
"""

import math

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair, scored_boxes

RADIUS = 3
PIXELS = (2 * RADIUS + 1) ** 2  # pixels of a window
LUMINANCE_CONSTANT = (0.01 * 255) ** 2  # C1 of the paper, with its K1 = 0.01 and a data range of 255
CONTRAST_CONSTANT = (0.03 * 255) ** 2  # C2, with K2 = 0.03
STRIP_ROWS = 64  # rows at once: the float64 intermediates fit in the cache, and memory is bounded


def ssim(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean structural similarity index of the mattes, in [-1, 1]; 1 if they are identical.

    The mean is over the scored pixels whose window is inside the image, at least 3 pixels from its border, and NaN if
    there are none. The windows use the whole image, so known pixels within 3 pixels of scored ones affect the result.
    Over the whole region it equals `skimage.metrics.structural_similarity` with its default settings, win_size=7, and
    a data range of 255.

    Args:
        pred_alpha, alpha: (H, W) uint8.
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
        index = _index_map(pair.pred_alpha, pair.alpha, rows, columns)
        if pair.unknown is None:
            count += index.size
        else:
            unknown = pair.unknown[rows, columns]
            index = cv2.copyTo(index, unknown)  # zero elsewhere
            count += cv2.countNonZero(unknown)
        total += float(index.sum())
    return total / count if count else math.nan


def _index_map(pred_alpha: np.ndarray, alpha: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Index at every pixel of a box that is at least `RADIUS` from the border of the image, float64.

    Means and variances are computed from the sums of the windows, which are exact integers. Both fractions are expanded
    by the divisors: n^2 = 49^2 for the means, n (n - 1) = 49 * 48 for the sample variances.
    """
    crop = slice(rows.start - RADIUS, rows.stop + RADIUS), slice(columns.start - RADIUS, columns.stop + RADIUS)
    p, a = pred_alpha[crop], alpha[crop]
    p_sums, a_sums = _window_sums(p), _window_sums(a)
    product_sums = _window_sums(cv2.multiply(p, a, dtype=cv2.CV_16U))
    square_sums = _window_sums(p, cv2.sqrBoxFilter) + _window_sums(a, cv2.sqrBoxFilter)

    products, squares = p_sums * a_sums, p_sums * p_sums + a_sums * a_sums
    constant = LUMINANCE_CONSTANT * PIXELS**2
    luminance = (2 * products + constant) / (squares + constant)
    constant = CONTRAST_CONSTANT * PIXELS * (PIXELS - 1)
    structure = (2 * (PIXELS * product_sums - products) + constant) / (PIXELS * square_sums - squares + constant)
    return luminance * structure


def _window_sums(image: np.ndarray, box_filter=cv2.boxFilter) -> np.ndarray:
    """(H - 6, W - 6) float64 sums over the 7 x 7 windows inside the image."""
    size = 2 * RADIUS + 1
    return box_filter(image, cv2.CV_64F, (size, size), normalize=False)[RADIUS:-RADIUS, RADIUS:-RADIUS]
