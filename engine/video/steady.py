"""Temporal steadiness: a robust mean over neighbouring frames on both sides, along the motion of the object.

Changes without a cause, such as sensor noise or a wandering edge of a segmentation, are outliers among the neighbouring
frames or average out. The same number of frames before and after is used, so the result does not lag behind. Each frame
is sampled once, along the accumulated motion, so repeated resampling does not blur it. The mean covers `REACH` frames
on either side, so a result does not depend on where a run began.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from engine.video.motion import CUT_IOU, Moved, mask_iou

REACH = 2  # frames on either side
LEAST_TRUST = 0.01  # trust below which a neighbour is ignored
LEAST_SPREAD = 0.02  # difference of alpha or probability that is always accepted
MOST_SPREAD = 0.3  # difference beyond which a change is not noise
SPREADS = 3.0  # median deviations at which the weight has fallen to 1 / e
ROUNDS = 2  # iterations of the weighted mean
_SURE = 0.98  # pixels that are above this, or below 1 - this, in all frames are not averaged
_ROW = 4096  # pixels in a row for OpenCV's remap, which accepts at most 32767


def steadied(
    plane: np.ndarray, neighbours: Iterable[tuple[np.ndarray, Moved]], region: np.ndarray | None = None
) -> np.ndarray:
    """Average a frame's plane with those of its neighbours where the motion to them is trusted.

    Args:
        plane: alpha or probability of the object (H, W), float32 in [0, 1].
        neighbours: planes of other frames, each with the motion of the object to that frame.
        region: (H, W) boolean, the pixels to average; None for those where the planes are neither all 0 nor all 1.

    Returns:
        (H, W) float32 in [0, 1].
    """
    neighbours = list(neighbours)
    if region is None:
        planes = [plane, *(other for other, _ in neighbours)]
        region = (np.max(planes, axis=0) > 1 - _SURE) & (np.min(planes, axis=0) < _SURE)
    at = np.flatnonzero(region)
    if not neighbours or not at.size:
        return plane
    values, weights = [plane.ravel()[at]], [np.ones(at.size, np.float32)]
    for other, moved in neighbours:
        moved = moved.at_size(plane.shape)
        values.append(_sampled(other, at, moved.flow.reshape(-1, 2)[at]))
        trust = moved.trust.ravel()[at]
        weights.append(np.where(trust < LEAST_TRUST, 0, trust).astype(np.float32))
    result = plane.copy()
    result.ravel()[at] = robust_mean(np.stack(values), np.stack(weights))
    return result


def is_same_subject(plane: np.ndarray, next_plane: np.ndarray) -> bool:
    """Return whether the masks of two frames' probabilities (H, W) overlap by at least `CUT_IOU`. Otherwise there is a
    cut.
    """
    return mask_iou(plane >= 0.5, next_plane >= 0.5) >= CUT_IOU


def robust_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of the columns, in which values far from the others have little weight.

    The mean starts from the median. A value is weighted by exp(-(d / s)^2), where d is its distance from the mean and s
    is `SPREADS` median deviations. The width of the weights therefore follows the spread of the values.

    Args:
        values: (K, N) float32 in [0, 1].
        weights: (K, N) float32 in [0, 1], positive in the first row.

    Returns:
        (N,) float32.

    Example:
        >>> mean = robust_mean(np.float32([[0.5], [0.52], [0.9]]), np.ones((3, 1), np.float32))
        >>> print(f"{mean[0]:.2f}")
        0.51
    """
    mean = weighted_median(values, weights)
    spread = np.clip(SPREADS * weighted_median(np.abs(values - mean), weights), LEAST_SPREAD, MOST_SPREAD)
    for _ in range(ROUNDS):
        near = weights * np.exp(-(((values - mean) / spread) ** 2)) + np.float32(1e-6) * weights
        mean = (near * values).sum(axis=0) / near.sum(axis=0)
    return mean


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted medians (N,) of the columns of (K, N) values, with interpolation between two values.

    Each value is placed at the middle of its weight, and the median is the position at half of the total weight. Values
    with weight 0 are ignored.

    Example:
        >>> weighted_median(np.float32([[1], [2], [9]]), np.float32([[1], [1], [1]])).tolist()
        [2.0]
        >>> weighted_median(np.float32([[1], [2]]), np.float32([[1], [1]])).tolist()
        [1.5]
    """
    values = np.where(weights > 0, values, values.max(initial=0) + 1)  # sorted last, beyond half of the weight
    order = np.argsort(values, axis=0)
    values, weights = np.take_along_axis(values, order, 0), np.take_along_axis(weights, order, 0)
    passed = np.cumsum(weights, axis=0) - weights / 2
    half = weights.sum(axis=0) / 2
    last = len(values) - 1
    lower = np.clip((passed <= half).sum(axis=0) - 1, 0, last)[None]
    upper = np.minimum(lower + 1, last)
    low, high, at_low, at_high = (
        np.take_along_axis(rows, index, 0)[0] for rows in (values, passed) for index in (lower, upper)
    )
    share = (half - at_low) / np.maximum(at_high - at_low, np.float32(1e-6))
    return low + np.clip(share, 0, 1) * (high - low)


def _sampled(plane: np.ndarray, at: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Values (N,) of a plane (H, W) float32 at flat indices (N,) displaced by (N, 2) x and y, with cubic sampling."""
    rows, columns = np.divmod(at, plane.shape[1])
    places = np.zeros((-(-at.size // _ROW) * _ROW, 2), np.float32)
    places[: at.size] = flow + np.stack([columns, rows], axis=1)
    places = places.reshape(-1, _ROW, 2)
    sampled = cv2.remap(plane, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(sampled.ravel()[: at.size], 0, 1)
