"""Conn: disconnectedness of pixels from the largest solid part that prediction and truth share.

The metric is that of Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009, as the
Composition-1k evaluation code computes it (`compute_connectivity_error`; for an empty intersection, the copy of it in
Yaoyi-Li/GCA-Matting). All arithmetic is on integers: levels l = i / 10 and values v / 255 have the common scale 2550.
For 16 bits, 65535 takes the place of 255.
"""

import cv2
import numpy as np

from metrics.pair import MattePair, matte_pair

LEVELS = 10  # number of thresholds; l is a multiple of a tenth


def conn(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of absolute differences of the pixels' degrees of connectedness, in thousands.

    The largest component is found in the whole image. The trimap only selects the pixels of the sum.

    Args:
        pred_alpha, alpha: (H, W) uint8, or uint16 on the scale of 65535.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> alpha = np.zeros((4, 4), np.uint8)
        >>> alpha[:, :2] = 255
        >>> pred_alpha = alpha.copy()
        >>> pred_alpha[0, 3] = 255  # one pixel that is not connected to the object
        >>> conn(pred_alpha, alpha)
        0.001
    """
    return conn_of(matte_pair(pred_alpha, alpha, trimap))


def conn_of(pair: MattePair) -> float:
    """`conn` of arrays that have been checked."""
    if pair.pixels == 0:
        return 0.0
    levels = connected_levels(np.minimum(pair.pred_alpha, pair.alpha))
    pred_gap = _disconnected(pair.pred_alpha, levels, pair.opaque)
    true_gap = _disconnected(pair.alpha, levels, pair.opaque)
    return cv2.norm(pred_gap, true_gap, cv2.NORM_L1, pair.unknown) / (LEVELS * pair.opaque * 1000)


def thresholds(opaque: int) -> list[int]:
    """Smallest values that reach the levels 1/10 to 1, where `opaque` is the value of 1.

    v / 255 >= i / 10 in integers is 10 v >= 255 i. In floating point 153 / 255 >= 0.6 depends on the rounding of 0.6.

    Example:
        >>> thresholds(255)
        [26, 51, 77, 102, 128, 153, 179, 204, 230, 255]
    """
    return [-(-opaque * i // LEVELS) for i in range(1, LEVELS + 1)]


def connected_levels(shared: np.ndarray) -> np.ndarray:
    """Number of thresholds that each pixel passes before it first leaves the largest component.

    Args:
        shared: (H, W) uint8 or uint16, the minimum of prediction and truth. Both pass a threshold where this does.

    Returns:
        (H, W) uint8 of 0..10, ten times the level map l.
    """
    levels = np.zeros(shared.shape, np.uint8)
    largest = np.zeros(shared.shape, np.uint8)
    passed_before, seed = 0, None
    # From the highest threshold down, each component contains a seed for the next, larger one.
    for threshold in reversed(thresholds(np.iinfo(shared.dtype).max)):
        passing = (shared >= threshold).view(np.uint8)
        passed = cv2.countNonZero(passing)
        if passed != passed_before:  # the masks are nested, so an equal count is an equal mask
            largest, seed = _largest_component(passing, passed, seed)
            passed_before = passed
        levels = (levels + np.uint8(1)) * largest  # a pixel that leaves the component here starts again from zero
    return levels


def _largest_component(
    passing: np.ndarray, passed: int, seed: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Find the largest 4-connected component of a mask.

    Args:
        passing: (H, W) uint8, 1 in the mask and 0 elsewhere, with at least one pixel set; overwritten.
        passed: number of set pixels.
        seed: (x, y) of a set pixel that is probably in the component. Filling from it is several times faster than
            labelling all components. It suffices if it covers more than half of the mask.

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
    """Label of the largest component and (x, y) of its first pixel in column-major order.

    Of several components of the same size, the one whose first pixel is leftmost, then topmost, is chosen.
    """
    areas = stats[1:, cv2.CC_STAT_AREA]  # label 0 is the outside of the mask
    tied = 1 + np.flatnonzero(areas == areas.max())
    x = int(stats[tied, cv2.CC_STAT_LEFT].min())
    column = labels[:, x]
    y = int(np.argmax(np.isin(column, tied)))
    return int(column[y]), (x, y)


def _disconnected(matte: np.ndarray, levels: np.ndarray, opaque: int) -> np.ndarray:
    """Difference between a matte and its level, or 0 if it is below 0.15; 10 `opaque` times 1 - phi.

    Args:
        matte: (H, W) with values up to `opaque`.
        levels: (H, W) uint8, 10 l.
    """
    kind = np.int16 if opaque == 255 else np.float64  # exact in both; OpenCV has no threshold for int32
    gap = matte * kind(LEVELS) - levels * kind(opaque)
    connected = 3 * opaque // 2  # the largest integer below 0.15 on this scale, 382 of 2550
    return cv2.threshold(gap, connected, 0, cv2.THRESH_TOZERO)[1]
