"""Reading the files of one image to score, with their unchanged values."""

import numpy as np

from data.images.files import read_gray_exact
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, quantise_trimap
from metrics.matching import Case
from runtime.errors import InputError


def read_case(case: Case, quantise_trimaps: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read prediction, truth and trimap of one image, each (H, W) uint8. Errors are those of `score_case`."""
    trimap = None
    if case.trimap_file is not None:  # first, so that unusable trimaps are reported without reading the other files
        trimap = read_gray_exact(case.trimap_file)
        trimap = quantise_trimap(trimap) if quantise_trimaps else _require_coded(trimap, case)
    alpha = read_gray_exact(case.alpha_file, first_channel=True)
    pred_alpha = read_gray_exact(case.pred_file)
    for file, array in ((case.pred_file, pred_alpha), (case.trimap_file, trimap)):
        if array is not None and array.shape != alpha.shape:
            raise InputError(
                f"{file}: expected {alpha.shape[1]} x {alpha.shape[0]} pixels like {case.alpha_file}, found "
                f"{array.shape[1]} x {array.shape[0]}; score the file at the size it was predicted for"
            )
    return pred_alpha, alpha, trimap


def _require_coded(trimap: np.ndarray, case: Case) -> np.ndarray:
    coded = (trimap == BACKGROUND) | (trimap == UNKNOWN) | (trimap == FOREGROUND)
    if not coded.all():
        strays = np.unique(trimap[~coded]).tolist()
        values = ", ".join(map(str, strays[:4])) + (", ..." if len(strays) > 4 else "")
        raise InputError(
            f"{case.trimap_file}: expected a trimap of 0, 128 and 255 only, found {values}; correct it, or snap such "
            "values with --quantise-trimaps"
        )
    return trimap
