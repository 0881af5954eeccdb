"""Reading the files of one image to score, with their unchanged values."""

from pathlib import Path

import numpy as np

from data.images.mattes import matte_reading, narrow_scale, read_gray_exact, trimap_reading, wrong_scale
from data.images.pairs import size_hint, turned_apart
from data.images.remarks import Remark
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from metrics.matching import Case
from runtime.errors import InputError


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
    _note(remarks, "prediction", _remark_on_scale(pred_alpha, alpha, case.pred_file), case.pred_file)
    return pred_alpha, alpha, trimap


def _remark_on_scale(pred_alpha: np.ndarray, alpha: np.ndarray, file: Path) -> str:
    """Remark on a prediction that is nearly transparent everywhere; empty for others.

    Either there is next to nothing in the picture, or the values have another scale, such as labels of 0 and 1. They
    have another scale if this reading halves the error.

    Raises:
        CodingError: the values have another scale.
    """
    opaque, expected = narrow_scale(pred_alpha), np.iinfo(pred_alpha.dtype).max
    if opaque is None:
        return ""
    truth = alpha / np.float32(np.iinfo(alpha.dtype).max)
    error, rescaled_error = (np.abs(pred_alpha / np.float32(scale) - truth).sum() for scale in (expected, opaque))
    if 2 * rescaled_error < error:
        raise wrong_scale(file, "a prediction", pred_alpha, opaque)
    return f"no value is above {opaque} of {expected}; scored as nearly transparent"


def read_truth(case: Case, remarks: list[Remark] | None = None) -> np.ndarray:
    """Read the truth of one image, (H, W) uint8 or uint16. Of an opaque colour picture, the first channel is read."""
    alpha, remark = matte_reading(case.alpha_file, exact=True, first_channel=True)
    if remarks is not None:
        _note(remarks, "truth", remark, case.alpha_file)
    return alpha


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
