"""Scoring of image sequences: consecutive frames, and the steadiness of the mattes over each clip."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from metrics.matching import Case
from metrics.pool import outcomes
from metrics.reading import read_case
from metrics.temporal import score_sequence
from runtime.errors import InputError
from runtime.text import natural_order

SEQUENCE_METRICS = ("dtssd", "messddt")
PAIRS_PER_TASK = 32  # processes share a long clip in parts of this many frames, plus the one that two parts share


class Run(NamedTuple):
    """Consecutive frames without a gap: a clip, or a part of one."""

    clip: str
    cases: tuple[Case, ...]


def score_clips(
    cases: Mapping[str, Case], names: Sequence[str], quantise_trimaps: bool, num_workers: int
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Score the clips of a set: frames in one folder are a clip, in the natural order of their names.

    Args:
        cases: name -> files of the frames to score.
        names: all frames of the set. A frame that is not in `cases` is a gap, which no pair spans.
        quantise_trimaps: as in `score_folders`.
        num_workers: number of processes; 0 and 1 use this process.

    Returns:
        Clip -> "dtssd" and "messddt" (means over its pairs of frames, NaN without pairs), "pairs" and
        "undefined_pairs" as in `score_sequence`; and clip -> reason why it could not be scored.
    """
    runs = {f"{run.clip} {number}": run for number, run in enumerate(_runs(cases, names))}
    parts: dict[str, list[dict[str, float]]] = {}
    failed = {}
    work = partial(_score_run, quantise_trimaps=quantise_trimaps)
    for key, outcome in sorted(outcomes(runs, work, num_workers)):
        clip = runs[key].clip
        if isinstance(outcome, str):
            failed[clip] = outcome
        else:
            parts.setdefault(clip, []).append(outcome)
    clips = {clip: _joined(results) for clip, results in parts.items() if clip not in failed}
    return dict(sorted(clips.items(), key=lambda clip: natural_order(clip[0]))), failed


def require_sequences(names: Sequence[str]) -> None:
    """Refuse a set in which no folder has two images.

    Raises:
        InputError: there is no sequence to score.
    """
    if max(Counter(map(_clip, names)).values()) < 2:
        raise InputError(
            "--sequences: expected folders of consecutive frames, one for each clip, found no two frames in a folder"
        )


def mean_over_clips(clips: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean over the clips with a pair to score, with the same weight for every clip; NaN if there are none."""
    scored = [clip for clip in clips.values() if clip["pairs"]]
    return {
        metric: math.fsum(clip[metric] for clip in scored) / len(scored) if scored else math.nan
        for metric in SEQUENCE_METRICS
    }


def _runs(cases: Mapping[str, Case], names: Sequence[str]) -> Iterator[Run]:
    """Yield the uninterrupted runs of each clip, the long ones in parts that share a frame."""
    for clip, frames in groupby(sorted(names, key=_clip_and_frame), key=_clip):
        for there, stretch in groupby(frames, key=cases.__contains__):
            if not there:
                continue
            stretch = [cases[name] for name in stretch]
            for start in range(0, max(len(stretch) - 1, 1), PAIRS_PER_TASK):
                yield Run(clip, tuple(stretch[start : start + PAIRS_PER_TASK + 1]))


def _score_run(run: Run, quantise_trimaps: bool) -> dict[str, float]:
    try:
        return score_sequence(_frames(run.cases, quantise_trimaps))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{run.cases[0].pred_file.parent}: {error}; the frames of a clip must be of one size"
        ) from error


def _frames(
    cases: Sequence[Case], quantise_trimaps: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    for case in cases:
        yield read_case(case, quantise_trimaps)


def _joined(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Combine the results of a clip's parts: means weighted by their pairs."""
    pairs = sum(result["pairs"] for result in results)
    means = {
        metric: math.fsum(result[metric] * result["pairs"] for result in results if result["pairs"]) / pairs
        if pairs
        else math.nan
        for metric in SEQUENCE_METRICS
    }
    return {**means, "pairs": pairs, "undefined_pairs": sum(result["undefined_pairs"] for result in results)}


def _clip(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _clip_and_frame(name: str) -> tuple:
    return natural_order(_clip(name)), natural_order(name)
