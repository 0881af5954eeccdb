"""Grad: difference between the edges of the prediction and those of the truth.

The metric is that of Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009, with the
constants of the Composition-1k evaluation code (`compute_gradient_loss`, `gaussgradient`).
"""

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair, scored_boxes

SIGMA = 1.4
RADIUS = 4  # where the Gaussian falls below 0.01: ceil(SIGMA sqrt(-2 log(0.01 sqrt(2 pi) SIGMA)))
STRIP_ROWS = 128  # rows that are filtered at once: the float64 intermediates fit in the cache, and memory is bounded


def grad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of squared differences of the magnitudes of Gaussian gradients, in thousands.

    Each matte is first stretched to [0, 1] by its own extremes over the whole image, as in MATLAB's `mat2gray`. The
    filters use the whole image, so known pixels within 4 pixels of scored ones affect the result.

    Args:
        pred_alpha, alpha: (H, W) uint8 or uint16, which may be smaller than the 9 x 9 kernel.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> alpha = np.zeros((16, 16), np.uint8)
        >>> alpha[:, 8:] = 255
        >>> grad(alpha, alpha), grad(np.zeros_like(alpha), alpha) > 0
        (0.0, True)
    """
    return grad_of(matte_pair(pred_alpha, alpha, trimap))


def grad_of(pair: MattePair) -> float:
    """`grad` of arrays that have been checked."""
    smoothing, derivative = gaussian_kernels()
    pred_derivative = derivative / _contrast(pair.pred_alpha)
    true_derivative = derivative / _contrast(pair.alpha)
    total = 0.0
    for rows, columns in scored_boxes(pair, STRIP_ROWS):
        pred_edges = _magnitude(pair.pred_alpha, rows, columns, smoothing, pred_derivative)
        true_edges = _magnitude(pair.alpha, rows, columns, smoothing, true_derivative)
        unknown = None if pair.unknown is None else pair.unknown[rows, columns]
        total += cv2.norm(cv2.subtract(pred_edges, true_edges), cv2.NORM_L2SQR, unknown)
    return total / 1000


def gaussian_kernels() -> tuple[np.ndarray, np.ndarray]:
    """Smoothing kernel and its derivative, (9,) float64, each with a unit L2 norm.

    The reference divides its 2-D kernels by their Frobenius norm. For a product of 1-D kernels, this is equivalent to
    dividing each factor by its own norm. The kernels have neither unit sum nor unit gain.
    """
    t = np.arange(-RADIUS, RADIUS + 1)
    smoothing = np.exp(-(t**2) / (2 * SIGMA**2))
    derivative = -t * smoothing
    return smoothing / np.linalg.norm(smoothing), derivative / np.linalg.norm(derivative)


def _contrast(image: np.ndarray) -> float:
    """max - min of an image, or 1 for a constant image, whose gradient is zero on any scale.

    The derivative kernel sums to zero, so (x - min) / (max - min) has the gradient of x / (max - min).
    """
    low, high, _, _ = cv2.minMaxLoc(image)
    return (high - low) or 1.0


def _magnitude(
    image: np.ndarray, rows: slice, columns: slice, smoothing: np.ndarray, derivative: np.ndarray
) -> np.ndarray:
    """Gradient magnitude in a box of the image, float64, with the values for the whole image.

    The box is filtered with a margin of the kernel's radius. Edge pixels are replicated only where the margin reaches
    the border of the image.
    """
    top, left = max(rows.start - RADIUS, 0), max(columns.start - RADIUS, 0)
    crop = image[top : rows.stop + RADIUS, left : columns.stop + RADIUS]
    across = cv2.sepFilter2D(crop, cv2.CV_64F, derivative, smoothing, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(crop, cv2.CV_64F, smoothing, derivative, borderType=cv2.BORDER_REPLICATE)
    inner = cv2.magnitude(across, down)[rows.start - top :, columns.start - left :]
    return inner[: rows.stop - rows.start, : columns.stop - columns.start]
