"""Codings of trimap values: detection of the values for background, unknown and foreground."""

import numpy as np
from PIL import Image

from data.images.files import to_uint8
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, UNKNOWN_FROM, quantise_trimap

NEAR = 8  # largest distance from 0, 128 or 255 that compression causes
SOFT_LEVELS = 16  # number of other levels from which the values may be a soft matte
SOFT_RATIO = 4  # ratio of pixels with other levels to pixels near 128; a trimap that was resized once has at most 2
MOST_LISTED = 6  # values in a message
EXPECTED = "expected a trimap of 0 (background), 128 (unknown) and 255 (foreground)"
SAVE = "; save these three levels as 8-bit gray"


class TrimapCodingError(ValueError):
    """Values that are not a trimap in a known coding; the message has the values."""


def decode_trimap(values: np.ndarray, is_lossy: bool = False, is_signed: bool = False) -> tuple[np.ndarray, str]:
    """Convert the values of a file to a trimap, with a remark if the coding is unusual.

    The usual codings are 0 to 255 in 8 bits, 0 to 65535 in 16 bits and 0 to 1 in floats, quantised at thirds of the
    scale. Two others are read with a remark:

    - three values, evenly spaced from 0 (0, 1, 2; 0, 50, 100) or around it (-1, 0, 1): background, unknown, foreground;
    - values from 0 to 255 in a wider type.

    Args:
        values: (H, W) bool, integers or floats.
        is_lossy: whether the values are from a JPEG, which never has labels.
        is_signed: whether integers may be negative, so that their scale is unknown.

    Returns:
        (H, W) uint8 of 0, 128 and 255, and the remark, which is empty for the usual codings.

    Raises:
        TrimapCodingError: any other coding, such as a soft matte, or three values of which two would become one.

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
    lowest, highest = values.min(), values.max()
    if not np.isfinite([lowest, highest]).all():  # if a value is NaN, both are NaN
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
    if lowest >= 0 and UNKNOWN_FROM <= highest <= 255:  # on the 16-bit scale all of it would be background
        return _decode_bytes(to_uint8(values, 255), is_lossy, "values of 0..255 in a wider type", listed)
    if not on_scale:
        raise TrimapCodingError(wrong)
    levels = to_uint8(values, scale)
    if highest > 0 and not levels.any():
        raise TrimapCodingError(wrong)
    return _decode_bytes(levels, is_lossy, "", listed)


def _decode_bytes(levels: np.ndarray, is_lossy: bool, remark: str, listed: str = "") -> tuple[np.ndarray, str]:
    """Convert levels 0..255 to a trimap. `listed` are the file's own values, for messages."""
    counts = np.array(Image.fromarray(levels).histogram())  # (256,); without OpenCV, which ONNX files do not need
    found = np.flatnonzero(counts).astype(np.uint8)
    if np.isin(found, (BACKGROUND, UNKNOWN, FOREGROUND)).all():
        return levels.copy(), remark
    if not listed and _is_evenly_spaced(found, is_lossy):
        trimap = _of_three(levels, found)
        return trimap, remark if np.array_equal(trimap, quantise_trimap(levels)) else _meaning(found)
    _refuse_other_codings(counts, found, is_lossy, listed or _listed(found))
    return quantise_trimap(levels), remark


def _refuse_other_codings(counts: np.ndarray, found: np.ndarray, is_lossy: bool, listed: str) -> None:
    """Refuse levels that quantisation would misread. `counts` (256,) is their histogram, `found` those that occur."""
    if found[-1] < UNKNOWN_FROM and not (is_lossy and found[-1] <= NEAR):
        raise TrimapCodingError(f"{EXPECTED}, found {listed}, which would all be background{SAVE}")
    is_three = len(found) == 3 and np.diff(found.astype(int)).min() > 2 * NEAR
    if is_three and len(np.unique(quantise_trimap(found))) < 3:
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
    """Return whether the ascending values are three values evenly spaced from 0 or around it, as in a trimap."""
    if is_lossy or len(found) != 3:
        return False
    low, middle, high = (value.item() for value in found)
    if found.dtype == np.uint8 and abs(high - UNKNOWN) <= NEAR:
        return False  # 0, 64 and 128 may be the edge between background and unknown
    uneven = abs(low + high - 2 * middle)
    if low < 0:  # 8-bit integers range from -128 to 127
        return uneven <= (1 if isinstance(low, int) else 0.01 * high)
    return low == 0 and uneven <= 0.01 * high  # both 127 and 128 count as the middle of 255


def _of_three(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    trimap = np.full(values.shape, UNKNOWN, np.uint8)
    trimap[values == found[0]] = BACKGROUND
    trimap[values == found[2]] = FOREGROUND
    return trimap


def _distinct(values: np.ndarray) -> np.ndarray:
    """Distinct values in ascending order."""
    if values.dtype == np.uint16:
        return np.flatnonzero(np.bincount(values.ravel())).astype(np.uint16)
    return np.unique(values)


def _meaning(found: np.ndarray) -> str:
    return f"values {_listed(found)} read as background, unknown, foreground"


def _listed(found: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in found[:MOST_LISTED])
    return shown if len(found) <= MOST_LISTED else f"{shown}, ... ({len(found)} values up to {found[-1]:g})"
