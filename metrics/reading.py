"""Reading the files of one image to score, with their unchanged values."""

import contextlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from data.images.files import image_paths, read_header
from data.images.mattes import (
    CodingError,
    Reading,
    matte_reading,
    narrow_scale,
    read_gray_exact,
    trimap_reading,
    wrong_scale,
)
from data.images.pairs import size_hint, turned_apart
from data.images.remarks import Remark
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from metrics.matching import Case
from runtime.errors import InputError

NEARLY_EMPTY = 0.001  # largest share of pixels above 0 in a truth that may be of an empty picture


def read_case(
    case: Case, quantise_trimaps: bool, remarks: list[Remark] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read prediction, truth and trimap of one image; errors as in `score_case`.

    Returns:
        Prediction and truth, (H, W) uint8 or uint16, and the trimap, (H, W) uint8 or None.

    Args:
        remarks: list to which remarks on files that were read in an unusual way are added.
    """
    remarks = [] if remarks is None else remarks
    trimap = None
    if case.trimap_file is not None:  # first: a set with unusable trimaps is refused before the rest is read
        if quantise_trimaps:
            trimap, remark = trimap_reading(case.trimap_file)
            _note(remarks, "trimap", remark, case.trimap_file)
        else:
            trimap = _require_coded(read_gray_exact(case.trimap_file), case)
    alpha = read_truth(case, remarks)
    pred_alpha = read_gray_exact(case.pred_file)
    for what, file, array in (("prediction", case.pred_file, pred_alpha), ("trimap", case.trimap_file, trimap)):
        if array is None:
            continue
        if array.shape != alpha.shape:
            raise InputError(
                f"{file}: expected {alpha.shape[1]} x {alpha.shape[0]} pixels like {case.alpha_file}, found "
                f"{array.shape[1]} x {array.shape[0]}"
                + (size_hint(case.alpha_file, file) or "; score the file at the size it was predicted for")
            )
        _note(remarks, what, turned_apart(case.alpha_file, file), file)
    for what, file, matte, other, read in (
        ("truth", case.alpha_file, alpha, pred_alpha, _truth_reading),
        ("prediction", case.pred_file, pred_alpha, alpha, read_gray_exact),
    ):
        _note(remarks, what, _remark_on_scale(what, file, matte, other, read), file)
    return pred_alpha, alpha, trimap


def _remark_on_scale(
    what: str, file: Path, matte: np.ndarray, other: np.ndarray, read: Callable[[Path], np.ndarray]
) -> str:
    """Remark on a prediction or truth that is nearly transparent everywhere; empty for others.

    Either there is next to nothing in the picture, or the values have another scale, such as labels of 0 and 1. The
    pictures beside it show the scale, unless the other scale halves the difference of this one from its partner, or a
    truth has more than a few pixels that are not 0. Black in a JPEG may have noise of 1, so a JPEG is not judged.

    Args:
        what: "prediction" or "truth".
        matte: (H, W) uint8 or uint16 values of `file`.
        other: the truth of a prediction, or the prediction for a truth.
        read: function that reads the pictures beside `file`.

    Raises:
        CodingError: the values have another scale, or nothing shows their scale.
    """
    opaque, expected = narrow_scale(matte), np.iinfo(matte.dtype).max
    if opaque is None or read_header(file).format == "JPEG":
        return ""
    error = wrong_scale(file, f"a {what}", matte, opaque)
    partner = other / np.float32(np.iinfo(other.dtype).max)
    usual, rescaled = (np.abs(matte / np.float32(scale) - partner).sum() for scale in (expected, opaque))
    if 2 * rescaled < usual or (what == "truth" and np.count_nonzero(matte) > NEARLY_EMPTY * matte.size):
        raise error
    if not _has_full_scale(file.parent, file.parent.stat().st_mtime_ns, read):
        raise CodingError(
            f"{error.message}, and no picture beside it with values above {expected // 2}",
            remedy=f"{error.remedy}, or set them to 0 if there is nothing in the picture",
        )
    return f"no value is above {opaque} of {expected}; scored as nearly transparent"


@lru_cache
def _has_full_scale(folder: Path, modified: int, read: Callable[[Path], np.ndarray]) -> bool:
    """Return whether a picture in the folder, which was last `modified` then, has values in the upper half of its type.

    Without such a picture all are read, so each process does this once for a folder.
    """
    for path in image_paths(folder):
        with contextlib.suppress(InputError):  # reported when it is scored
            values = read(path)
            if values.max() > np.iinfo(values.dtype).max // 2:
                return True
    return False


def read_truth(case: Case, remarks: list[Remark] | None = None) -> np.ndarray:
    """Read the truth of one image, (H, W) uint8 or uint16. Of an opaque colour picture, the first channel is read."""
    alpha, remark = _truth_of(case.alpha_file)
    if remarks is not None:
        _note(remarks, "truth", remark, case.alpha_file)
    return alpha


def _truth_of(file: Path) -> Reading:
    return matte_reading(file, exact=True, first_channel=True, any_scale=True)


def _truth_reading(file: Path) -> np.ndarray:
    return _truth_of(file).values


def _note(remarks: list[Remark], what: str, text: str, file: Path) -> None:
    if text:
        remarks.append(Remark(what, text, str(file)))


def _require_coded(trimap: np.ndarray, case: Case) -> np.ndarray:
    if trimap.dtype != np.uint8:
        raise InputError(
            f"{case.trimap_file}: expected a trimap of 0, 128 and 255 in 8 bits, found 16 bits; save it with "
            "8 bits, or accept such values with --quantise-trimaps"
        )
    coded = (trimap == BACKGROUND) | (trimap == UNKNOWN) | (trimap == FOREGROUND)
    if not coded.all():
        strays = np.unique(trimap[~coded])
        values = ", ".join(map(str, strays[:4])) + (", ..." if len(strays) > 4 else "")
        raise InputError(
            f"{case.trimap_file}: expected a trimap of 0, 128 and 255 only, found {values}; correct it, or accept "
            "such values with --quantise-trimaps"
        )
    return trimap
