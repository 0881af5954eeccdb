"""Input of every metric: a prediction, the truth, and the scored pixels."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from data.images.trimap import UNKNOWN


class MattePair(NamedTuple):
    """A checked prediction and truth, with the scored region.

    Attributes:
        pred_alpha, alpha: (H, W) uint8, or both uint16, contiguous.
        unknown: (H, W) uint8, nonzero at scored pixels; None if all pixels are scored.
        pixels: number of scored pixels.
    """

    pred_alpha: np.ndarray
    alpha: np.ndarray
    unknown: np.ndarray | None
    pixels: int

    @property
    def opaque(self) -> int:
        """Value of an opaque pixel, 255 or 65535."""
        return int(np.iinfo(self.alpha.dtype).max)


def matte_pair(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> MattePair:
    """Check the arrays and determine the region to score.

    If one matte has 8 bits and the other 16, both are scored in 16 bits.

    Args:
        pred_alpha, alpha: (H, W) uint8 or uint16.
        trimap: (H, W) uint8; only pixels of value 128 are scored. None to score every pixel.

    Raises:
        ValueError: an array is not 2-D uint8 or uint16, is empty, or differs in shape from the prediction.
    """
    check_mattes({"pred_alpha": pred_alpha, "alpha": alpha}, trimap)
    if pred_alpha.dtype != alpha.dtype:
        pred_alpha, alpha = in_16_bits(pred_alpha), in_16_bits(alpha)
    pred_alpha, alpha = np.ascontiguousarray(pred_alpha), np.ascontiguousarray(alpha)
    if trimap is None:
        return MattePair(pred_alpha, alpha, None, alpha.size)
    unknown = (np.ascontiguousarray(trimap) == UNKNOWN).view(np.uint8)
    return MattePair(pred_alpha, alpha, unknown, cv2.countNonZero(unknown))


def in_16_bits(matte: np.ndarray) -> np.ndarray:
    """A uint8 or uint16 matte as uint16, without loss because 65535 = 257 * 255."""
    return matte if matte.dtype == np.uint16 else matte * np.uint16(257)


def check_mattes(mattes: Mapping[str, np.ndarray], trimap: np.ndarray | None = None) -> None:
    """Check that the named arrays are mattes of one size, and that the trimap has this size.

    Raises:
        ValueError: an array is not 2-D uint8 (or, for mattes, uint16), is empty, or differs in shape from the first.
    """
    arrays = dict(mattes) if trimap is None else {**mattes, "trimap": trimap}
    first, like = next(iter(arrays.items()))
    for name, array in arrays.items():
        dtypes = (np.uint8, np.uint16) if name in mattes else (np.uint8,)
        if not isinstance(array, np.ndarray) or array.dtype not in dtypes or array.ndim != 2:
            expected = " or ".join(dtype.__name__ for dtype in dtypes)
            came = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name}: expected an (H, W) array of {expected}, the values as saved, got {came}")
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
