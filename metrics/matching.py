"""Which files belong together: a prediction, its truth and its trimap, matched by name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.errors import InputError
from data.files import images_by_stem

NAMED_AT_MOST = 5  # files named in a one-line message before it goes on with a count


class Case(NamedTuple):
    """One image to score; `trimap_file` is None where every pixel counts."""

    name: str
    pred_file: Path
    alpha_file: Path
    trimap_file: Path | None


@dataclass(frozen=True)
class ScoreSet:
    """The images to score, and those that the truth asks for but nobody predicted."""

    cases: list[Case]
    missing: list[str]

    @property
    def expected(self) -> int:
        return len(self.cases) + len(self.missing)


def match_folders(
    pred_dir: str | os.PathLike,
    label_dir: str | os.PathLike,
    trimap_dir: str | os.PathLike | None,
    allow_missing: bool = False,
) -> ScoreSet:
    """Match the images of the folders by name without extension, and refuse a set that does not fit.

    Args:
        pred_dir, label_dir: folders of predictions and truths.
        trimap_dir: folder of trimaps; None scores every pixel.
        allow_missing: a truth without a prediction is listed as missing instead of refused. Nothing else is
            forgiven.

    Raises:
        InputError: a folder is missing or empty, shares a stem twice, or a file has no counterpart.
    """
    predictions = _images(pred_dir)
    truths = _images(label_dir)
    trimaps = _images(trimap_dir) if trimap_dir is not None else None

    missing = sorted(truths.keys() - predictions.keys())
    misfits = [] if allow_missing else [_without("prediction", missing, pred_dir)]
    misfits.append(_without("truth", predictions.keys() - truths.keys(), label_dir))
    if trimaps is not None:
        misfits.append(_without("trimap", truths.keys() - trimaps.keys(), trimap_dir))
        misfits.append(_without("truth", trimaps.keys() - truths.keys() - predictions.keys(), label_dir))
    misfits = [misfit for misfit in misfits if misfit]
    if misfits:
        hint = "" if allow_missing or not missing else "; --allow-missing scores without the missing predictions"
        raise InputError("the set is incomplete or mismatched: " + "; ".join(misfits) + hint)

    names = sorted(truths.keys() & predictions.keys())
    if not names:
        raise InputError(f"{pred_dir}: expected a prediction for at least one image of {label_dir}, found none")
    cases = [Case(name, predictions[name], truths[name], trimaps[name] if trimaps else None) for name in names]
    return ScoreSet(cases, missing)


def name_some(names: Iterable[str]) -> str:
    """Join names for a one-line message: the first few and how many more."""
    names = sorted(names)
    text = ", ".join(names[:NAMED_AT_MOST])
    more = len(names) - NAMED_AT_MOST
    return f"{text} and {more} more" if more > 0 else text


def _images(folder: str | os.PathLike) -> dict[str, Path]:
    images = images_by_stem(folder)
    if not images:
        raise InputError(f"{folder}: expected a folder of images, found no image in it")
    return images


def _without(what: str, names: Iterable[str], folder: str | os.PathLike) -> str:
    names = list(names)
    return f"{len(names)} without a {what} in {folder} ({name_some(names)})" if names else ""
