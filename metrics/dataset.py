"""Scoring folders of files: reading, worker processes, and an honest account of what was scored."""

import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data.errors import InputError
from data.files import read_gray_exact
from data.trimap import BACKGROUND, FOREGROUND, UNKNOWN, quantise_trimap
from metrics.image_scores import METRICS, PAPER_METRICS, mean_scores, score_image
from metrics.matching import Case, match_folders

REGIONS = ("unknown", "whole")
CASES_PER_WORKER = 32  # below this, starting another process costs more than it saves


class Item(NamedTuple):
    """What an image was scored against, whatever the files are called and however they are compressed.

    Attributes:
        height, width: in pixels.
        truth, trimap: SHA-256 of the (H, W) 8-bit values, row by row, as hex digits; the trimap's is None where
            every pixel is scored.
    """

    height: int
    width: int
    truth: str
    trimap: str | None


Result = tuple[dict[str, float], Item]
Outcome = Result | str  # or why there is none


@dataclass
class Evaluation:
    """What a set of predictions scored, and what of the set was not scored.

    Attributes:
        region: "unknown" (trimap is 128) or "whole".
        expected: how many images the set holds.
        metrics: names of the metrics computed.
        shared_truths: whether image NAME_k was scored against truth NAME.
        missing: names without a prediction, left out because `allow_missing` was given.
        cases: name -> the files of every image that was to be scored.
        scores: name -> result of `score_image`, in the order of names.
        items: name -> what it was scored against, for the same names.
        failed: name -> why an image could not be scored.
        interrupted: whether Ctrl-C ended the scoring; what was left is in `failed`.
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
    items: dict[str, Item] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    def mean(self, skip_undefined: bool = False) -> dict[str, float]:
        """Average over the scored images, as `mean_scores`; all NaN if any image failed.

        A mean over what happened to be readable would pass for the score of the set.
        """
        if self.failed:
            return dict.fromkeys(self.metrics, math.nan)
        return mean_scores(self.scores.values(), skip_undefined, self.metrics)

    @property
    def without_unknown(self) -> list[str]:
        """Names of scored images with no pixel to score: MSE is undefined there, the other metrics are 0."""
        return [name for name, score in self.scores.items() if score["pixels"] == 0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names, sizes, truths and trimaps of the scored images, as 64 hex digits.

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
    num_workers: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score a folder of predictions against folders of truths and trimaps, matched by name.

    Args:
        pred_dir, label_dir: folders of 8-bit images, sub-folders included; predictions of one channel, truths read
            by their first.
        trimap_dir: folder of trimaps of exactly 0, 128 and 255; needed for region "unknown", and for "whole" only
            where truths are shared (see `match_folders`).
        region: score where the trimap is 128 ("unknown"), or everywhere ("whole").
        metrics: names in `METRICS`.
        allow_missing: score what there is when predictions are missing.
        quantise_trimaps: snap other gray values by `data.trimap.quantise_trimap` instead of refusing them.
        num_workers: processes; 0 and 1 stay in this one, None takes what the machine has and the set is worth.
        progress: draw a bar on stderr if that is a terminal.

    Returns:
        An `Evaluation`. A file that cannot be scored is in its `failed`, and the rest is scored all the same.

    Raises:
        InputError: the folders do not hold a complete, matching set (see `match_folders`), or an argument is wrong.
    """
    _check_choice("region", [region], REGIONS)
    _check_choice("metrics", metrics, METRICS)
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
    score = partial(score_case, metrics=evaluation.metrics, quantise_trimaps=quantise_trimaps)
    _fill(evaluation, _outcomes(score_set.cases, score, num_workers), progress)
    return evaluation


def score_case(
    case: Case, metrics: Sequence[str] = PAPER_METRICS, quantise_trimaps: bool = False
) -> tuple[dict[str, float], Item]:
    """Read the files of one image, score it, and say what it was scored against.

    Raises:
        InputError: a file is unreadable, its size differs from the truth's, it is not 8-bit gray, or the trimap
            holds other values than 0, 128 and 255 and is not to be quantised.
    """
    pred_alpha, alpha, trimap = read_case(case, quantise_trimaps)
    item = Item(*alpha.shape, _digest(alpha), None if trimap is None else _digest(trimap))
    return score_image(pred_alpha, alpha, trimap, metrics), item


def read_case(case: Case, quantise_trimaps: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read prediction, truth and trimap of one image, each (H, W) uint8; errors as `score_case`."""
    trimap = None
    if case.trimap_file is not None:  # first, so that a set with unusable trimaps is told without reading the rest
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


def _check_choice(what: str, chosen: Sequence[str], allowed: Collection[str]) -> None:
    unknown = [name for name in chosen if name not in allowed]
    if unknown or not chosen:
        came = ", ".join(map(repr, unknown)) or "none"
        raise InputError(f"{what}: expected one of {', '.join(allowed)}, got {came}")


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _fill(evaluation: Evaluation, outcomes: Iterator[tuple[str, Outcome]], progress: bool) -> None:
    """Take in the outcomes as they come; on Ctrl-C keep those that have come and name the others."""
    bar = tqdm(outcomes, "scoring", len(evaluation.cases), unit="image", disable=None if progress else True)
    try:
        with contextlib.closing(outcomes), bar:
            for name, outcome in bar:
                if isinstance(outcome, str):
                    evaluation.failed[name] = outcome
                else:
                    evaluation.scores[name], evaluation.items[name] = outcome
    except KeyboardInterrupt:
        evaluation.interrupted = True
        left = evaluation.cases.keys() - evaluation.scores.keys() - evaluation.failed.keys()
        evaluation.failed.update(dict.fromkeys(left, "not scored: interrupted"))
    for results in (evaluation.scores, evaluation.items, evaluation.failed):
        ordered = dict(sorted(results.items()))
        results.clear()
        results.update(ordered)


def _require_coded(trimap: np.ndarray, case: Case) -> np.ndarray:
    coded = (trimap == BACKGROUND) | (trimap == UNKNOWN) | (trimap == FOREGROUND)
    if not coded.all():
        strays = np.unique(trimap[~coded]).tolist()
        values = ", ".join(map(str, strays[:4])) + (", ..." if len(strays) > 4 else "")
        raise InputError(
            f"{case.trimap_file}: expected a trimap of 0, 128 and 255 only, found {values}; mend it, or snap such "
            "values with --quantise-trimaps"
        )
    return trimap


def _outcomes(
    cases: list[Case], score: Callable[[Case], Result], num_workers: int | None
) -> Iterator[tuple[str, Outcome]]:
    """Yield (name, scores or why there are none) for each case, as they are done."""
    if num_workers is None:
        num_workers = min(_usable_cpus(), len(cases) // CASES_PER_WORKER)
    if num_workers <= 1:
        for case in cases:
            yield case.name, _attempt(score, case)
        return
    executor = ProcessPoolExecutor(
        min(num_workers, len(cases)), mp_context=_process_context(), initializer=_prepare_worker
    )
    try:
        with _interrupts_held():
            futures = {executor.submit(_attempt, score, case): case.name for case in cases}
        for future in as_completed(futures):
            yield futures[future], _result(future)
    finally:  # also on Ctrl-C: the workers finish the image at hand and take no other
        executor.shutdown(cancel_futures=True)


def _attempt(score: Callable[[Case], Result], case: Case) -> Outcome:
    try:
        return score(case)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{case.alpha_file}: not enough memory to score it"


def _result(future: Future) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return "not scored: a worker process was killed, perhaps for want of memory; use a smaller --num-workers"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, and for good from the processes started in it.

    A terminal sends it to all of them: one must not stop half-way through its imports, nor this one half-way
    through starting it.
    """
    held = []
    in_main_thread = threading.current_thread() is threading.main_thread()  # only there Python handles signals
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    if masks:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what the started processes inherit
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(*held[0])


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows nothing is inherited
    cv2.setNumThreads(1)  # the processes are the parallelism


def _process_context() -> multiprocessing.context.BaseContext:
    """Return a context whose workers inherit no threads and no CUDA state, and import only once where possible."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
