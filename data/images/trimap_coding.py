"""The values of a trimap file: which of them mean background, unknown and foreground."""

import cv2
import numpy as np

from data.images.files import to_uint8
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, UNKNOWN_FROM, quantise_trimap

NEAR = 8  # levels from 0, 128 or 255 that compression explains
SOFT_LEVELS = 16  # no trimap has as many levels between those
SOFT_RATIO = 4  # and as many times more pixels there than near 128: a trimap resized once has twice as many at most
MOST_LISTED = 6  # values in a message
EXPECTED = "expected a trimap of 0 (background), 128 (unknown) and 255 (foreground)"
SAVE = "; save these three levels as 8-bit gray"


class TrimapCodingError(ValueError):
    """Values that are no trimap, or one in a coding that is not known; the message says which were found."""


def decode_trimap(values: np.ndarray, is_lossy: bool = False, is_signed: bool = False) -> tuple[np.ndarray, str]:
    """Turn the values that a file holds into a trimap, and say how where they are not plain.

    Plain are levels from 0 to 255, 16 bits from 0 to 65535 and floats from 0 to 1, quantised by thirds of the scale.
    Read too, and reported:

    - three values, evenly spaced from 0 (0, 1, 2; 0, 50, 100) or around it (-1, 0, 1): background, unknown, foreground;
    - values from 0 to 255 in a wider type.

    Args:
        values: (H, W) bool, integers or floats.
        is_lossy: from a JPEG, whose values are never labels.
        is_signed: integers that may be negative, so that their scale is not known.

    Returns:
        (H, W) uint8 of 0, 128 and 255; and the remark, empty where the values are plain.

    Raises:
        TrimapCodingError: anything else, such as a soft matte, or three values of which two would become one.

    Example:
        >>> decode_trimap(np.uint8([[0, 1, 2]]))
        (array([[  0, 128, 255]], dtype=uint8), 'values 0, 1, 2 read as background, unknown, foreground')
    """
    if values.dtype == bool:
        return values * np.uint8(FOREGROUND), ""
    if not values.size:
        return np.zeros(values.shape, np.uint8), ""
    if values.dtype == np.uint8:
        return _decode_bytes(values, is_lossy, "")
    lowest, highest = values.min().item(), values.max().item()
    if not np.isfinite([lowest, highest]).all():  # of NaN both are NaN
        raise TrimapCodingError(f"{EXPECTED}, found NaN or infinity")
    scale = 1 if values.dtype.kind == "f" else 65535
    on_scale = lowest >= 0 and highest <= scale and not (is_signed and highest > 0)
    found = _distinct(values)
    if _is_evenly_spaced(found, is_lossy):
        trimap = _of_three(values, found)
        if on_scale and np.array_equal(trimap, quantise_trimap(to_uint8(values, scale))):
            return trimap, ""
        return trimap, _meaning(found)
    listed = _listed(found)
    wrong = f"{EXPECTED}, found {listed}{SAVE}"
    if lowest >= 0 and UNKNOWN_FROM <= highest <= 255:  # on the scale of 16 bits all of it is background
        return _decode_bytes(to_uint8(values, 255), is_lossy, "values of 0..255 in a wider type", listed)
    if not on_scale:
        raise TrimapCodingError(wrong)
    levels = to_uint8(values, scale)
    if highest > 0 and not levels.any():
        raise TrimapCodingError(wrong)
    return _decode_bytes(levels, is_lossy, "", listed)


def _decode_bytes(levels: np.ndarray, is_lossy: bool, remark: str, listed: str = "") -> tuple[np.ndarray, str]:
    """The trimap of levels 0..255; `listed` are the values that the file has in their place, for messages."""
    counts = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()  # (256,)
    found = np.flatnonzero(counts).astype(np.uint8)
    if np.isin(found, (BACKGROUND, UNKNOWN, FOREGROUND)).all():
        return levels.copy(), remark
    if not listed and _is_evenly_spaced(found, is_lossy):
        trimap = _of_three(levels, found)
        return trimap, remark if np.array_equal(trimap, quantise_trimap(levels)) else _meaning(found)
    _refuse_other_codings(counts, found, is_lossy, listed or _listed(found))
    return quantise_trimap(levels), remark


def _refuse_other_codings(counts: np.ndarray, found: np.ndarray, is_lossy: bool, listed: str) -> None:
    """Refuse levels that the thirds of the scale would misread; `counts` (256,), and `found` those that occur."""
    if 0 < found[-1] < UNKNOWN_FROM and not (is_lossy and found[-1] <= NEAR):
        raise TrimapCodingError(f"{EXPECTED}, found {listed}, which would all be background{SAVE}")
    is_apart = np.diff(found.astype(int)).min(initial=256) > 2 * NEAR
    if len(found) == 3 and is_apart and len(np.unique(quantise_trimap(found))) < 3:
        raise TrimapCodingError(f"{EXPECTED}, found {listed}, of which two would become one{SAVE}")
    coded = np.abs(np.arange(256)[:, None] - [BACKGROUND, UNKNOWN, FOREGROUND]) <= NEAR  # (256, 3)
    between, unknown = counts[~coded.any(axis=1)], counts[coded[:, 1]].sum()
    if np.count_nonzero(between) >= SOFT_LEVELS and between.sum() > SOFT_RATIO * unknown:
        raise TrimapCodingError(
            f"{EXPECTED}, found {len(found)} values, as a soft matte or a resized mask has them: "
            f"{between.sum() / counts.sum():.1%} of the pixels lie between these levels and "
            f"{unknown / counts.sum():.1%} near 128; paint the unknown region in 128"
        )


def _is_evenly_spaced(found: np.ndarray, is_lossy: bool) -> bool:
    """Whether the ascending values are the three of a trimap: evenly spaced from 0, or around it."""
    if is_lossy or len(found) != 3:
        return False
    low, middle, high = (value.item() for value in found)
    if found.dtype == np.uint8 and abs(high - UNKNOWN) <= NEAR:
        return False  # 0, 64 and 128 may be the edge between background and unknown
    uneven = abs(low + high - 2 * middle)
    if low < 0:  # integers reach from -128 to 127
        return uneven <= (1 if isinstance(low, int) else 0.01 * high)
    return low == 0 and uneven <= 0.01 * high  # 127 and 128 are both the middle of 255


def _of_three(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    trimap = np.full(values.shape, UNKNOWN, np.uint8)
    trimap[values == found[0]] = BACKGROUND
    trimap[values == found[2]] = FOREGROUND
    return trimap


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending."""
    if values.dtype == np.uint16:
        return np.flatnonzero(np.bincount(values.ravel())).astype(np.uint16)
    return np.unique(values)


def _meaning(found: np.ndarray) -> str:
    return f"values {_listed(found)} read as background, unknown, foreground"


def _listed(found: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in found[:MOST_LISTED].tolist())
    return shown if len(found) <= MOST_LISTED else f"{shown}, ... ({len(found)} values up to {found[-1]:g})"
