"""Scoring of folders: reading, worker processes, and a complete account of the images."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data.images.remarks import Remark
from metrics.image_scores import METRICS, PAPER_METRICS, mean_scores, score_image
from metrics.matching import Case, match_folders
from metrics.pool import outcomes, workers_worth_it
from metrics.reading import read_case
from metrics.sequences import mean_over_clips, require_sequences, score_clips
from runtime.errors import InputError, require_choice

REGIONS = ("unknown", "whole")


class Reference(NamedTuple):
    """Data that an image was scored against, independent of file names and compression.

    Attributes:
        height, width: size in pixels.
        truth, trimap: SHA-256 of the (H, W) values, row by row, as hexadecimal digits; None for the trimap if every
            pixel is scored. Values of 16 bits have the lower byte first.
    """

    height: int
    width: int
    truth: str
    trimap: str | None


ImageResult = tuple[dict[str, float], Reference, list[Remark]] | str  # the string: why there is none


@dataclass
class Evaluation:
    """Scores of a set of predictions, and the images that were not scored.

    Attributes:
        region: "unknown" (trimap is 128) or "whole".
        expected: number of images in the set.
        metrics: names of the computed metrics.
        shared_truths: whether image NAME_k was scored against truth NAME.
        missing: names without a prediction, excluded because of `allow_missing`.
        cases: name -> the files of every image to score.
        scores: name -> result of `score_image`, in the order of names.
        items: name -> data that the image was scored against, for the same names.
        failed: name -> reason why the image could not be scored.
        sequences: clip -> result of `score_clips`, if sequences were requested.
        failed_clips: clip -> reason why it could not be scored although its frames could.
        remarks: remarks on files of scored images that were read in an unusual way.
        interrupted: whether Ctrl-C ended the scoring; the remaining images are in `failed`.
    """

    region: str
    expected: int
    metrics: tuple[str, ...] = PAPER_METRICS
    allow_missing: bool = False
    quantise_trimaps: bool = False
    shared_truths: bool = False
    missing: list[str] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    items: dict[str, Reference] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, dict[str, float]] | None = None
    failed_clips: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    interrupted: bool = False

    def mean(self, skip_undefined: bool = False) -> dict[str, float]:
        """Mean over the scored images, as in `mean_scores`; NaN for every metric if any image failed.

        A mean over the readable images could be mistaken for the score of the set.
        """
        if self.failed:
            return dict.fromkeys(self.metrics, math.nan)
        return mean_scores(self.scores.values(), skip_undefined, self.metrics)

    def sequence_mean(self) -> dict[str, float]:
        """Mean of dtSSD and MESSDdt over the clips, as in `mean_over_clips`; NaN for both if anything failed."""
        return mean_over_clips({} if self.failed or self.failed_clips else self.sequences or {})

    @property
    def without_unknown(self) -> list[str]:
        """Names of scored images without a pixel to score. Their MSE is undefined, their other metrics are 0."""
        return [name for name, score in self.scores.items() if score["pixels"] == 0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names, sizes, truths and trimaps of the scored images, as 64 hexadecimal digits.

        Two evaluations with the same fingerprint and region scored the same data.
        """
        lines = (json.dumps([name, *self.items[name]]) for name in sorted(self.items))
        return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def score_folders(
    pred_dir: str | os.PathLike,
    label_dir: str | os.PathLike,
    trimap_dir: str | os.PathLike | None = None,
    *,
    region: str = "unknown",
    metrics: Sequence[str] = PAPER_METRICS,
    allow_missing: bool = False,
    quantise_trimaps: bool = False,
    sequences: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score a folder of predictions against folders of truths and trimaps. Files are matched by name.

    Args:
        pred_dir, label_dir: folders of images of 8 or 16 bits with their sub-folders. Predictions have one channel; of
            truths the first channel is read.
        trimap_dir: folder of trimaps of exactly 0, 128 and 255. Region "unknown" needs it; region "whole" only if
            truths are shared (see `match_folders`).
        region: "unknown" to score where the trimap is 128, or "whole".
        metrics: names in `METRICS`.
        allow_missing: whether a set with missing predictions is scored.
        quantise_trimaps: whether other gray values are converted by `data.images.trimap.quantise_trimap` instead of
            refused.
        sequences: whether dtSSD and MESSDdt are scored too; the frames in one folder are a clip.
        num_workers: number of processes; 0 and 1 use this process, None chooses from the machine and the set.
        progress: whether a progress bar is shown on stderr, if that is a terminal.

    Returns:
        An `Evaluation`. Files that cannot be scored are in its `failed`; the others are scored.

    Raises:
        InputError: the folders are not a complete, matching set (see `match_folders`), or an argument is wrong.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from data.images.files import write_png
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, value in (("pred", 100), ("alpha", 110)):
        ...     write_png(folder / name / "a.png", np.full((10, 10), value, np.uint8))
        >>> evaluation = score_folders(folder / "pred", folder / "alpha", region="whole", num_workers=0)
        >>> round(evaluation.mean()["sad"], 6)  # 100 pixels that differ by 10 levels, in thousands
        0.003922
    """
    require_choice("region", region, REGIONS)
    for metric in metrics or [None]:
        require_choice("metrics", metric, METRICS)
    if region == "unknown" and trimap_dir is None:
        raise InputError("region unknown needs a folder of trimaps; give --trimap-dir, or --region whole")
    if num_workers is not None and num_workers < 0:
        raise InputError(f"number of workers: expected 0 or more, got {num_workers}")

    score_set = match_folders(pred_dir, label_dir, trimap_dir, region, allow_missing)
    evaluation = Evaluation(
        region,
        score_set.expected,
        tuple(dict.fromkeys(metrics)),
        allow_missing,
        quantise_trimaps,
        score_set.shared_truths,
        score_set.missing,
        {case.name: case for case in score_set.cases},
    )
    if sequences:
        require_sequences([*evaluation.cases, *evaluation.missing])
    if num_workers is None:
        num_workers = workers_worth_it(len(evaluation.cases))
    score = partial(score_case, metrics=evaluation.metrics, quantise_trimaps=quantise_trimaps)
    _fill(evaluation, outcomes(evaluation.cases, score, num_workers), progress)
    if sequences and not evaluation.interrupted:
        _fill_sequences(evaluation, num_workers)
    return evaluation


def score_case(
    case: Case, metrics: Sequence[str], quantise_trimaps: bool
) -> tuple[dict[str, float], Reference, list[Remark]]:
    """Read the files of one image and score it. The result also has the data it was scored against, and remarks.

    Raises:
        InputError: a file is unreadable, is not gray of 8 or 16 bits or differs in size from the truth, or the trimap
            has values other than 0, 128 and 255 and must not be quantised.
    """
    remarks: list[Remark] = []
    pred_alpha, alpha, trimap = read_case(case, quantise_trimaps, remarks)
    item = Reference(*alpha.shape, _digest(alpha), None if trimap is None else _digest(trimap))
    return score_image(pred_alpha, alpha, trimap, metrics), item, remarks


def _digest(array: np.ndarray) -> str:
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little_endian)).hexdigest()


def _fill(evaluation: Evaluation, scored: Iterator[tuple[str, ImageResult]], progress: bool) -> None:
    """Collect the outcomes as they arrive. On Ctrl-C, keep those that have arrived and name the others."""
    bar = tqdm(scored, "scoring", len(evaluation.cases), unit="image", disable=None if progress else True)
    try:
        with contextlib.closing(scored), bar:
            for name, outcome in bar:
                if isinstance(outcome, str):
                    evaluation.failed[name] = outcome
                else:
                    evaluation.scores[name], evaluation.items[name], remarks = outcome
                    evaluation.remarks += remarks
    except KeyboardInterrupt:
        evaluation.interrupted = True
        left = evaluation.cases.keys() - evaluation.scores.keys() - evaluation.failed.keys()
        evaluation.failed.update(dict.fromkeys(left, "not scored: interrupted"))
    evaluation.remarks.sort()
    for results in (evaluation.scores, evaluation.items, evaluation.failed):
        ordered = dict(sorted(results.items()))
        results.clear()
        results.update(ordered)


def _fill_sequences(evaluation: Evaluation, num_workers: int) -> None:
    frames = {name: evaluation.cases[name] for name in evaluation.scores}
    names = [*evaluation.cases, *evaluation.missing]
    try:
        clips, failed = score_clips(frames, names, evaluation.quantise_trimaps, num_workers)
    except KeyboardInterrupt:
        evaluation.interrupted = True
        clips, failed = {}, {"(all)": "not scored: interrupted"}
    evaluation.sequences, evaluation.failed_clips = clips, failed
