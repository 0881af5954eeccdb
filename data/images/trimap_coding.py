"""Codings of trimap values: detection of the values for background, unknown and foreground."""

import numpy as np
from PIL import Image

from data.images.files import to_uint8
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, UNKNOWN_FROM, quantise_trimap

NEAR = 8  # largest distance from 0, 128 or 255 that compression causes
SOFT_RATIO = 4  # ratio of pixels with other levels to pixels near 128; a trimap that was resized once has at most 2
MOST_LISTED = 6  # values in a message; a trimap with soft edges has more
NAMES = {BACKGROUND: "background", UNKNOWN: "unknown", FOREGROUND: "foreground"}
EXPECTED = "expected a trimap of 0 (background), 128 (unknown) and 255 (foreground)"
SAVE = "; save these three levels as 8-bit gray"


class TrimapCodingError(ValueError):
    """Values that are not a trimap in a known coding; the message has the values."""


def decode_trimap(values: np.ndarray, is_lossy: bool = False, is_signed: bool = False) -> tuple[np.ndarray, str]:
    """Convert the values of a file to a trimap, with a remark if the coding is unusual.

    The usual codings are 0, 128 and 255 in 8 bits, 0 to 65535 in 16 bits and 0 to 1 in floats, with soft edges between
    the regions, which are quantised at thirds of the scale. Others are read with a remark that names the values:

    - three values, evenly spaced from 0 (0, 1, 2; 0, 50, 100) or around it (-1, 0, 1): background, unknown, foreground;
    - three values, one in each third of the scale (0, 120, 200);
    - four to six values, or soft edges, where a region has other levels or is missing;
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
    found, counts = _distinct(values)
    if not np.isfinite(found[[0, -1]]).all():  # NaN is sorted last
        raise TrimapCodingError(f"{EXPECTED}, found NaN or infinity")
    scale = _scale(found, is_signed)
    if _is_evenly_spaced(found, is_lossy):
        regions = np.uint8([BACKGROUND, UNKNOWN, FOREGROUND])
        is_usual = scale == _type_scale(found) and not _is_between(to_uint8(found, scale), regions).any()
        return _of_three(values, found), "" if is_usual else _meaning(found, regions)
    if scale is None:
        raise TrimapCodingError(f"{EXPECTED}, found {_listed(found)}{SAVE}")
    remarks = [] if scale == _type_scale(found) else ["values of 0..255 in a wider type"]
    remarks.append(_remark_on_levels(found, counts, scale, is_lossy))
    levels = values if values.dtype == np.uint8 else to_uint8(values, scale)
    return quantise_trimap(levels), "; ".join(filter(None, remarks))


def _type_scale(found: np.ndarray) -> int:
    """Largest value of the type: 255 for 8 bits, 65535 for wider integers, 1 for floats."""
    return 1 if found.dtype.kind == "f" else 255 if found.dtype == np.uint8 else 65535


def _scale(found: np.ndarray, is_signed: bool) -> int | None:
    """Value of the foreground for ascending values: that of their type, or 255 in a wider type; None if unknown."""
    lowest, highest, scale = found[0], found[-1], _type_scale(found)
    if lowest >= 0 and UNKNOWN_FROM <= highest <= 255:  # on the 16-bit scale all of it would be background
        return 255
    on_scale = lowest >= 0 and highest <= scale and not (is_signed and highest > 0)
    return scale if on_scale else None


def _remark_on_levels(found: np.ndarray, counts: np.ndarray, scale: int, is_lossy: bool) -> str:
    """Remark on values 0..`scale` whose levels are not plainly a trimap, and refuse those that would be misread.

    Args:
        found: (N,) the values that occur, ascending.
        counts: (N,) numbers of their pixels.
    """
    levels = to_uint8(found, scale)
    regions = quantise_trimap(levels)
    between = _is_between(levels, regions)
    if found[-1] > 0 and levels[-1] < UNKNOWN_FROM and not (is_lossy and levels[-1] <= NEAR):
        raise TrimapCodingError(f"{EXPECTED}, found {_listed(found)}, which would all be background{SAVE}")
    num_middles = np.isin(levels, (UNKNOWN - 1, UNKNOWN)).sum()  # both 127 and 128 are the middle of 255
    num_values = len(found) - max(0, num_middles - 1)
    if num_values <= 3 and not is_lossy:
        has_labels = num_values == 3 and (found[:2] == (0, 1)).all()  # 0, 1 and a label of ignored pixels
        if len(np.unique(regions)) < num_values and (between.any() or has_labels):
            raise TrimapCodingError(f"{EXPECTED}, found {_listed(found)}, of which two would become one{SAVE}")
        if between.any() and num_values < 3:
            raise TrimapCodingError(f"{EXPECTED}, found {_listed(found)}, which may have other meanings{SAVE}")
        return _meaning(found, regions) if between.any() else ""
    _refuse_soft_matte(counts, between, unknown=counts[~between & (regions == UNKNOWN)].sum())
    if num_values <= MOST_LISTED and not is_lossy:
        return _meaning(found, regions)
    peaks = [np.flatnonzero(regions == region)[counts[regions == region].argmax()] for region in np.unique(regions)]
    if between.any() and (len(peaks) < 3 or between[peaks].any()):
        return f"soft edges; the most frequent {_meaning(found[peaks], regions[peaks])}"
    return ""


def _is_between(levels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return whether each level differs from the 0, 128 or 255 of its region by more than compression can change."""
    return np.abs(levels.astype(int) - regions) > NEAR


def _refuse_soft_matte(counts: np.ndarray, between: np.ndarray, unknown: int) -> None:
    """Refuse levels most of which are neither known nor near 128; `unknown` counts the pixels near 128."""
    soft = counts[between].sum()
    if soft > SOFT_RATIO * unknown:
        raise TrimapCodingError(
            f"{EXPECTED}, found {len(counts)} values, as a soft matte or a resized mask has them: "
            f"{soft / counts.sum():.1%} of the pixels lie between these levels and "
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


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in ascending order, and the number of pixels of each."""
    if values.dtype == np.uint8:
        counts = np.array(Image.fromarray(values).histogram())  # without OpenCV, which ONNX files do not need
    elif values.dtype == np.uint16:
        counts = np.bincount(values.ravel())
    else:
        return np.unique(values, return_counts=True)
    found = np.flatnonzero(counts)
    return found.astype(values.dtype), counts[found]


def _meaning(found: np.ndarray, regions: np.ndarray) -> str:
    return f"values {_listed(found)} read as {', '.join(NAMES[region] for region in regions.tolist())}"


def _listed(found: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in found[:MOST_LISTED])
    return shown if len(found) <= MOST_LISTED else f"{shown}, ... ({len(found)} values up to {found[-1]:g})"
