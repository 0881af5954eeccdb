"""Matching of files by name: each prediction with its truth and its trimap."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data.images.files import images_by_stem
from data.images.pairing import composed, fitted, name_key, without_role
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
    missing: list[str]
    shared_truths: bool

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
    """Match the images of the folders by name (see `data.images.pairing`), and refuse a set that does not match.

    Names are paths relative to the folder, so sub-folders must agree. If no name of the predictions (or trimaps) agrees
    with a truth, they are matched by their bare names, provided that those of the truths are unique. The images are
    named by the paths of the truths in every case, so the folders of predictions affect neither clips nor the
    fingerprint of the set.

    Composition-1k has two layouts: one truth for each of the 1000 images (`alpha_copy`), or its 50 mattes, where image
    NAME_k belongs to truth NAME. The second is used if more names agree in it.

    Args:
        pred_dir, label_dir: folders of predictions and truths.
        trimap_dir: folder of trimaps, or one trimap for all images. Region "whole" only needs it for the second layout,
            in which the names of the trimaps are the only evidence that, for example, NAME_7 is missing.
        region: "unknown" or "whole"; in region "whole", cases have no trimap.
        allow_missing: whether an image without a prediction is listed as missing. Otherwise it is refused, as all other
            mismatches are.

    Raises:
        InputError: a folder is missing or empty, has a name twice, or a file has no counterpart.
    """
    truths = _images(label_dir)
    predictions = _named_as(truths, _images(pred_dir), "alpha")
    if trimap_dir is None:
        trimaps = None
    elif Path(trimap_dir).is_file():
        shared = len(_numbered(predictions, truths)) > len(predictions.keys() & truths.keys())
        trimaps = dict.fromkeys(predictions if shared else truths, Path(trimap_dir))
    else:
        trimaps = _named_as(truths, _images(trimap_dir), "trimap")

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

    scored = trimaps if trimaps is not None and region == "unknown" else {}
    cases = [Case(name, predictions[name], truths[truth_of[name]], scored.get(name)) for name in sorted(predictions)]
    return ScoreSet(cases, missing, shared)


def _images(folder: str | os.PathLike) -> Folder:
    images = images_by_stem(folder, recursive=True)
    if not images:
        raise InputError(f"{folder}: expected a folder of images, found no image in it")
    return {composed(name): path for name, path in images.items()}  # the same names on any system


def _named_as(truths: Folder, folder: Folder, role: str) -> Folder:
    """Files of a folder by the names of their truths. A file without a truth keeps its own name."""
    spelled = _spelled(folder, truths, role)
    return spelled if _agree_at_all(spelled, truths) else _under_truths(folder, truths, role)


def _agree_at_all(names: Iterable[str], truths: Folder) -> bool:
    return not truths.keys().isdisjoint(names) or bool(_numbered(names, truths))


def _numbered(names: Iterable[str], truths: Folder) -> dict[str, str]:
    """NAME_k -> NAME for the names whose NAME is a truth."""
    matches = ((name, NUMBERED.fullmatch(name)) for name in names)
    return {name: match[1] for name, match in matches if match and match[1] in truths}


def _spelled(folder: Folder, truths: Iterable[str], role: str) -> Folder:
    """Files of a folder, with names spelled like those of the truths, and NAME_k like truth NAME."""
    by_key = {name_key(name): name for name in truths}
    known, spelled = set(by_key.values()), {}
    for name, file in fitted(known, folder, role, of="alpha").items():
        bare = name if name in known else without_role(name, role)
        numbered = None if name in known else NUMBERED.fullmatch(bare)
        if numbered and (truth := by_key.get(name_key(numbered[1]))):
            name = truth + bare[len(numbered[1]) :]
        spelled[name] = file
    return spelled if len(spelled) == len(folder) else folder


def _under_truths(folder: Folder, truths: Folder, role: str) -> Folder:
    """Give the images of a flat folder the paths of the truths with their bare names, where that is unambiguous."""
    path_of = {PurePosixPath(name).name: name for name in truths}
    full_name = {PurePosixPath(name).name: name for name in folder}
    if len(set(map(name_key, path_of))) < len(truths) or len(full_name) < len(folder):
        return folder
    by_bare_name = _spelled({bare: folder[name] for bare, name in full_name.items()}, path_of, role)
    renamed = {}
    for name, file in by_bare_name.items():
        numbered = NUMBERED.fullmatch(name)
        if name in path_of:
            name = path_of[name]
        elif numbered and numbered[1] in path_of:
            name = path_of[numbered[1]] + name[len(numbered[1]) :]
        else:
            name = full_name[name]
        renamed[name] = file
    return renamed


def _without(what: str, names: Iterable[str], folder: str | os.PathLike) -> str:
    names = list(names)
    return f"{len(names)} without a {what} in {folder} ({name_some(names)})" if names else ""
