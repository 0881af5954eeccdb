"""Segmentation metrics from one confusion matrix over a whole set."""

import numpy as np

from metrics.description import Description

IGNORED = 255  # class index of pixels that are not scored

SEGMENTATION_METRICS = {
    "miou": Description("mIoU (%)", "share", scale=100, higher_is_better=True),
    "accuracy": Description("accuracy (%)", "share", scale=100, higher_is_better=True),
}
SEGMENTATION_LOSS = {"loss": Description("cross entropy (nats)", "nats")}
LEAST_PROBABILITY = 1e-7  # limits the cost of a pixel to 16 nats


def cross_entropy_sum(probabilities: np.ndarray, mask: np.ndarray) -> tuple[float, int]:
    """Sum of -log p of the true class, in nats, and its number of pixels.

    Args:
        probabilities: (H, W, K) float, probabilities of the classes.
        mask: (H, W) uint8 class indexes; pixels of class 255 are not counted.

    Example:
        >>> cross_entropy_sum(np.array([[[0.5, 0.5], [0.25, 0.75]]]), np.array([[0, 255]], np.uint8))
        (0.6931471805599453, 1)
    """
    counted = mask != IGNORED
    true = np.take_along_axis(probabilities[counted], mask[counted].astype(np.intp)[:, None], axis=1)  # (N, 1)
    return float(-np.log(true.astype(np.float64).clip(min=LEAST_PROBABILITY)).sum()), int(counted.sum())


def confusion_matrix(pred_mask: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true class (rows) and predicted class (columns), (num_classes, num_classes) int64.

    Args:
        pred_mask, mask: (H, W) uint8 class indexes; pixels whose true class is 255 are not counted.

    Raises:
        ValueError: shapes differ, or an index is not below `num_classes`.

    Example:
        >>> confusion_matrix(np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8), 2)
        array([[0, 0],
               [1, 1]])
    """
    if pred_mask.shape != mask.shape:
        raise ValueError(f"expected masks of one shape, got {pred_mask.shape} and {mask.shape}")
    counted = mask != IGNORED
    truth, prediction = mask[counted].astype(np.int64), pred_mask[counted].astype(np.int64)
    highest = max(truth.max(initial=0), prediction.max(initial=0))
    if highest >= num_classes:
        raise ValueError(f"expected class indexes below {num_classes}, got {highest}")
    pairs = np.bincount(truth * num_classes + prediction, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def segmentation_scores(matrix: np.ndarray) -> dict[str, float]:
    """Mean intersection over union, and pixel accuracy, of a confusion matrix (Long et al., CVPR 2015, section 5).

    Classes that occur in neither truth nor prediction are excluded from the mean. If no pixel is counted, both values
    are NaN.
    """
    hits = np.diag(matrix).astype(float)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    present = union > 0
    total = matrix.sum()
    return {
        "miou": float((hits[present] / union[present]).mean()) if present.any() else float("nan"),
        "accuracy": float(hits.sum() / total) if total else float("nan"),
    }
