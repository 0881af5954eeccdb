"""Input of every metric: a prediction, the truth, and the scored pixels."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from data.images.trimap import UNKNOWN


class MattePair(NamedTuple):
    """A checked prediction and truth, with the scored region.

    Attributes:
        pred_alpha, alpha: (H, W) uint8, contiguous.
        unknown: (H, W) uint8, nonzero at scored pixels; None if all pixels are scored.
        pixels: number of scored pixels.
    """

    pred_alpha: np.ndarray
    alpha: np.ndarray
    unknown: np.ndarray | None
    pixels: int


def matte_pair(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> MattePair:
    """Check the arrays and determine the region to score.

    Args:
        pred_alpha, alpha: (H, W) uint8.
        trimap: (H, W) uint8; only pixels of value 128 are scored. None to score every pixel.

    Raises:
        ValueError: an array is not 2-D uint8, is empty, or differs in shape from the prediction.
    """
    arrays = {"pred_alpha": pred_alpha, "alpha": alpha}
    if trimap is not None:
        arrays["trimap"] = trimap
    check_mattes(arrays)
    pred_alpha, alpha = np.ascontiguousarray(pred_alpha), np.ascontiguousarray(alpha)
    if trimap is None:
        return MattePair(pred_alpha, alpha, None, alpha.size)
    unknown = (np.ascontiguousarray(trimap) == UNKNOWN).view(np.uint8)
    return MattePair(pred_alpha, alpha, unknown, cv2.countNonZero(unknown))


def check_mattes(arrays: Mapping[str, np.ndarray]) -> None:
    """Check that the named arrays are mattes of one size.

    Raises:
        ValueError: an array is not 2-D uint8, is empty, or differs in shape from the first.
    """
    first, like = next(iter(arrays.items()))
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2:
            came = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name}: expected an (H, W) uint8 array, the 8-bit matte as saved, got {came}")
        if array.size == 0:
            raise ValueError(f"{name}: expected at least one pixel, got shape {array.shape}")
        if array.shape != like.shape:
            raise ValueError(f"{name}: expected shape {like.shape} like {first}, got {array.shape}")


def scored_boxes(pair: MattePair, strip_rows: int, margin: int = 0) -> Iterator[tuple[slice, slice]]:
    """Yield boxes (rows, columns) that together contain every scored pixel once, strip by strip.

    Args:
        pair: mattes and scored region.
        strip_rows: largest number of rows of a box, which limits the memory for processing a box.
        margin: distance in pixels from the border of the image below which pixels are excluded.
    """
    height, width = pair.alpha.shape
    columns = slice(margin, width - margin)
    if columns.start >= columns.stop:
        return
    for top in range(margin, height - margin, strip_rows):
        rows = slice(top, min(top + strip_rows, height - margin))
        if pair.unknown is None:
            yield rows, columns
            continue
        left, above, box_width, box_height = cv2.boundingRect(pair.unknown[rows, columns])
        if box_width:
            left += margin
            yield slice(top + above, top + above + box_height), slice(left, left + box_width)
