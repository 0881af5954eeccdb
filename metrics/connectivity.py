"""Conn: how far pixels are cut off from the largest solid part that prediction and truth share.

Metric of Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009, as the
Composition-1k evaluation code computes it (`compute_connectivity_error`; for an empty intersection, the copy of it in
Yaoyi-Li/GCA-Matting). All of it is integer arithmetic: levels l = i / 10 and values v / 255 meet on the scale of 2550.
"""

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair

# v / 255 >= i / 10 as integers: 10 v >= 255 i. In floating point 153 / 255 >= 0.6 depends on how 0.6 was made.
THRESHOLDS = [-(-255 * i // 10) for i in range(1, 11)]  # 26, 51, 77, 102, 128, 153, 179, 204, 230, 255
SCALE = 2550  # of the integers below: 10 per gray value, 255 per level
TOLERANCE = 382  # differences under 0.15, that is up to 382 / 2550, count as connected


def conn(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of absolute differences of the pixels' degrees of connectedness, in thousands.

    The largest component is looked for over the whole image; the trimap only chooses which pixels are summed.

    Args:
        pred_alpha, alpha: (H, W) uint8.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.
    """
    return conn_of(matte_pair(pred_alpha, alpha, trimap))


def conn_of(pair: MattePair) -> float:
    """`conn` of arrays that are already checked."""
    if pair.pixels == 0:
        return 0.0
    levels = connected_levels(np.minimum(pair.pred_alpha, pair.alpha)) * np.int16(255)
    pred_gap = _disconnected(pair.pred_alpha, levels)
    true_gap = _disconnected(pair.alpha, levels)
    return cv2.norm(pred_gap, true_gap, cv2.NORM_L1, pair.unknown) / (SCALE * 1000)


def connected_levels(shared: np.ndarray) -> np.ndarray:
    """Count, for each pixel, the thresholds passed before it first falls out of the largest component.

    Args:
        shared: (H, W) uint8, the smaller of prediction and truth: both pass a threshold where this does.

    Returns:
        (H, W) uint8 of 0..10, ten times the level map l.
    """
    levels = np.zeros_like(shared)
    largest = np.zeros_like(shared)
    passed_before, seed = 0, None
    # From the highest threshold down, so that each component found is a seed inside the next, larger one.
    for threshold in reversed(THRESHOLDS):
        passing = (shared >= threshold).view(np.uint8)
        passed = cv2.countNonZero(passing)
        if passed != passed_before:  # the masks are nested: an equal count is an equal mask
            largest, seed = _largest_component(passing, passed, seed)
            passed_before = passed
        levels = (levels + np.uint8(1)) * largest  # leaving the component at this threshold forgets those above
    return levels


def _largest_component(
    passing: np.ndarray, passed: int, seed: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Find the largest 4-connected component of a mask.

    Args:
        passing: (H, W) uint8, 1 in the mask and 0 elsewhere, at least one pixel set; used up.
        passed: how many pixels are set.
        seed: (x, y) of a set pixel thought to be in the component. Filling from it is several times faster than
            labelling all components, and settles the matter when it reaches more than half of the mask.

    Returns:
        (H, W) uint8 of 0 and 1, and (x, y) of a pixel in it.
    """
    filled = 2
    if seed is not None:
        size = cv2.floodFill(passing, None, seed, filled, flags=4)[0]
        if 2 * size > passed:
            return (passing == filled).view(np.uint8), seed
    left, top, width, height = cv2.boundingRect(passing)
    box = passing[top : top + height, left : left + width]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(box, connectivity=4)
    label, (x, y) = _largest_label(labels, stats)
    largest = np.zeros_like(passing)
    largest[top : top + height, left : left + width] = labels == label
    return largest, (left + x, top + y)


def _largest_label(labels: np.ndarray, stats: np.ndarray) -> tuple[int, tuple[int, int]]:
    """Return the label of the largest component and (x, y) of its first pixel in column-major order.

    Among equals it is the component whose first pixel comes first: the leftmost column, and there the topmost row.
    """
    areas = stats[1:, cv2.CC_STAT_AREA]  # label 0 is what is not in the mask
    tied = 1 + np.flatnonzero(areas == areas.max())
    x = int(stats[tied, cv2.CC_STAT_LEFT].min())
    column = labels[:, x]
    y = int(np.argmax(np.isin(column, tied)))
    return int(column[y]), (x, y)


def _disconnected(matte: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return 2550 (1 - phi), int16: how far a matte lies above its level, or 0 where that is under 0.15.

    Args:
        matte: (H, W) uint8.
        levels: (H, W) int16, 2550 l.
    """
    gap = matte * np.int16(10) - levels
    return cv2.threshold(gap, TOLERANCE, 0, cv2.THRESH_TOZERO)[1]
