"""Matching of files by name: each prediction with its truth and its trimap."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data.images.files import images_by_stem
from runtime.errors import InputError
from runtime.text import name_some

NUMBERED = re.compile(r"(.+)_\d+", re.DOTALL)  # NAME_k: the k-th composite of foreground NAME

Folder = dict[str, Path]


class Case(NamedTuple):
    """One image to score; `trimap_file` is None if every pixel counts."""

    name: str
    pred_file: Path
    alpha_file: Path
    trimap_file: Path | None


@dataclass(frozen=True)
class ScoreSet:
    """Images to score, and images of the set without a prediction.

    Attributes:
        cases: sorted by name.
        missing: names without a prediction.
        shared_truths: whether NAME_k was matched with truth NAME.
    """

    cases: list[Case]
    missing: list[str] = field(default_factory=list)
    shared_truths: bool = False

    @property
    def expected(self) -> int:
        return len(self.cases) + len(self.missing)


def match_folders(
    pred_dir: str | os.PathLike,
    label_dir: str | os.PathLike,
    trimap_dir: str | os.PathLike | None,
    region: str = "unknown",
    allow_missing: bool = False,
) -> ScoreSet:
    """Match the images of the folders by name without extension, and refuse a set that does not match.

    Names are paths relative to the folder, so sub-folders must agree. If no name of the predictions (or trimaps) agrees
    with a truth, they are matched by their bare names, provided that those of the truths are unique. The images are
    named by the paths of the truths in every case, so the folders of predictions affect neither clips nor the
    fingerprint of the set.

    Composition-1k has two layouts: one truth for each of the 1000 images (`alpha_copy`), or its 50 mattes, where image
    NAME_k belongs to truth NAME. The second is used if more names agree in it.

    Args:
        pred_dir, label_dir: folders of predictions and truths.
        trimap_dir: folder of trimaps. Region "whole" only needs it for the second layout, in which the names of the
            trimaps are the only evidence that, for example, NAME_7 is missing.
        region: "unknown" or "whole"; in region "whole", cases have no trimap.
        allow_missing: whether an image without a prediction is listed as missing. Otherwise it is refused, as all other
            mismatches are.

    Raises:
        InputError: a folder is missing or empty, has a name twice, or a file has no counterpart.
    """
    predictions, truths = _images(pred_dir), _images(label_dir)
    trimaps = None if trimap_dir is None else _images(trimap_dir)
    if not _agreeing(predictions, truths):
        predictions = _under_truths(predictions, truths)
    if trimaps is not None and not _agreeing(trimaps, truths):
        trimaps = _under_truths(trimaps, truths)

    listed = predictions if trimaps is None else trimaps
    shared = len(_numbered(listed, truths)) > len(listed.keys() & truths.keys())
    if shared and trimaps is None:
        raise InputError(
            f"{label_dir}: one truth NAME for several images NAME_k: the names of the trimaps determine the images of "
            "the set, so give --trimap-dir with --region whole too"
        )
    if region == "whole" and not shared:
        trimaps = None  # not needed, so it does not have to match
    truth_of = _numbered(listed, truths) if shared else {name: name for name in truths}

    missing = sorted(truth_of.keys() - predictions.keys())
    misfits = [] if allow_missing else [_without("prediction", missing, pred_dir)]
    misfits.append(_without("truth", predictions.keys() - truth_of.keys(), label_dir))
    if trimaps is not None:
        misfits.append(_without("trimap", truth_of.keys() - trimaps.keys(), trimap_dir))
        misfits.append(_without("truth", trimaps.keys() - truth_of.keys() - predictions.keys(), label_dir))
    if shared:
        misfits.append(_without("trimap NAME_k", truths.keys() - set(truth_of.values()), trimap_dir))
    if any(misfits):
        hint = "" if allow_missing or not missing else "; --allow-missing scores without the missing predictions"
        raise InputError("the set is incomplete or mismatched: " + "; ".join(filter(None, misfits)) + hint)

    names = sorted(truth_of.keys() & predictions.keys())
    if not names:
        raise InputError(f"{pred_dir}: expected a prediction for at least one image of {label_dir}, found none")
    scored = trimaps if trimaps is not None and region == "unknown" else {}
    cases = [Case(name, predictions[name], truths[truth_of[name]], scored.get(name)) for name in names]
    return ScoreSet(cases, missing, shared)


def _images(folder: str | os.PathLike) -> Folder:
    images = images_by_stem(folder, recursive=True)
    if not images:
        raise InputError(f"{folder}: expected a folder of images, found no image in it")
    return images


def _agreeing(names: Iterable[str], truths: Folder) -> int:
    return len(set(names) & truths.keys()) + len(_numbered(names, truths))


def _numbered(names: Iterable[str], truths: Folder) -> dict[str, str]:
    """NAME_k -> NAME for the names whose NAME is a truth."""
    matches = ((name, NUMBERED.fullmatch(name)) for name in names)
    return {name: match[1] for name, match in matches if match and match[1] in truths}


def _under_truths(folder: Folder, truths: Folder) -> Folder:
    """Give the images of a flat folder the paths of the truths with the same bare names, if that is unambiguous."""
    path_of = {PurePosixPath(name).name: name for name in truths}
    if len(path_of) < len(truths):
        return folder
    renamed = {}
    for name, file in folder.items():
        bare = PurePosixPath(name).name
        numbered = NUMBERED.fullmatch(bare)
        if bare in path_of:
            name = path_of[bare]
        elif numbered and numbered[1] in path_of:
            name = path_of[numbered[1]] + bare[len(numbered[1]) :]
        renamed[name] = file
    return renamed if len(renamed) == len(folder) else folder


def _without(what: str, names: Iterable[str], folder: str | os.PathLike) -> str:
    names = list(names)
    return f"{len(names)} without a {what} in {folder} ({name_some(names)})" if names else ""
