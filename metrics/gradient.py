"""Grad: how far the edges of the prediction are from the edges of the truth.

Metric of Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009, with the
constants of the Composition-1k evaluation code (`compute_gradient_loss`, `gaussgradient`).
"""

import math

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair, scored_boxes

SIGMA = 1.4
EPSILON = 0.01  # the kernels end where the Gaussian has fallen to this
RADIUS = math.ceil(SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * SIGMA * EPSILON)))  # 4
STRIP_ROWS = 128  # rows filtered at a time: the float64 intermediates stay in cache, and memory bounded


def grad(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of squared differences of the Gaussian gradients' magnitudes, in thousands.

    Each matte is stretched to [0, 1] by its own extremes over the whole image first, as MATLAB's `mat2gray` does.
    The filters see the whole image, so known pixels within 4 of the scored ones matter.

    Args:
        pred_alpha, alpha: (H, W) uint8; smaller than the 9 x 9 kernel is legal.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.
    """
    return grad_of(matte_pair(pred_alpha, alpha, trimap))


def grad_of(pair: MattePair) -> float:
    """`grad` of arrays that are already checked."""
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
    """Return the smoothing kernel and its derivative, (9,) float64, each of unit L2 norm.

    The reference divides its 2-D kernels by their Frobenius norm, which for a product of 1-D kernels is dividing
    each factor by its own norm. They are neither unit-sum nor unit-gain.
    """
    t = np.arange(-RADIUS, RADIUS + 1, dtype=np.float64)
    smoothing = np.exp(-(t**2) / (2 * SIGMA**2))
    derivative = -t * smoothing
    return smoothing / np.linalg.norm(smoothing), derivative / np.linalg.norm(derivative)


def _contrast(image: np.ndarray) -> float:
    """Return max - min of a uint8 image, or 1 for a constant one, whose gradient is zero on any scale.

    The derivative kernel sums to zero, so (x - min) / (max - min) has the gradient of x / (max - min).
    """
    low, high, _, _ = cv2.minMaxLoc(image)
    return (high - low) or 1.0


def _magnitude(
    image: np.ndarray, rows: slice, columns: slice, smoothing: np.ndarray, derivative: np.ndarray
) -> np.ndarray:
    """Return the gradient's magnitude in a box of the image, float64, as if the whole image had been filtered.

    The box is filtered with a margin of the kernel's radius, and edge pixels are replicated only where the margin
    meets the image's own border.
    """
    top, left = max(rows.start - RADIUS, 0), max(columns.start - RADIUS, 0)
    crop = image[top : rows.stop + RADIUS, left : columns.stop + RADIUS]
    across = cv2.sepFilter2D(crop, cv2.CV_64F, derivative, smoothing, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(crop, cv2.CV_64F, smoothing, derivative, borderType=cv2.BORDER_REPLICATE)
    inner = cv2.magnitude(across, down)[rows.start - top :, columns.start - left :]
    return inner[: rows.stop - rows.start, : columns.stop - columns.start]
