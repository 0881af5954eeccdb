"""Scoring folders of files: reading, worker processes, and an honest account of what was scored."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from data.errors import InputError
from data.files import read_gray_exact
from data.trimap import BACKGROUND, FOREGROUND, UNKNOWN, quantise_trimap
from metrics.image_scores import METRICS, mean_scores, score_image
from metrics.matching import Case, match_folders

REGIONS = ("unknown", "whole")
CASES_PER_WORKER = 32  # below this, starting another process costs more than it saves


@dataclass
class Evaluation:
    """What a set of predictions scored, and what of the set was not scored.

    Attributes:
        region: "unknown" (trimap is 128) or "whole".
        expected: how many images the truth holds.
        missing: names without a prediction, left out because `allow_missing` was given.
        scores: name -> result of `score_image`, in the order of names.
        failed: name -> why an image could not be scored.
    """

    region: str
    expected: int
    allow_missing: bool = False
    quantise_trimaps: bool = False
    missing: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def mean(self, skip_undefined: bool = False) -> dict[str, float]:
        """Average over the scored images, as `mean_scores`; all NaN if any image failed.

        A mean over what happened to be readable would pass for the score of the set.
        """
        if self.failed:
            return dict.fromkeys(METRICS, math.nan)
        return mean_scores(self.scores.values(), skip_undefined)

    @property
    def without_unknown(self) -> list[str]:
        """Names of scored images with no pixel to score: MSE is undefined there, the other metrics are 0."""
        return [name for name, score in self.scores.items() if score["pixels"] == 0]


def score_folders(
    pred_dir: str | os.PathLike,
    label_dir: str | os.PathLike,
    trimap_dir: str | os.PathLike | None = None,
    *,
    region: str = "unknown",
    allow_missing: bool = False,
    quantise_trimaps: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score a folder of predictions against folders of truths and trimaps, matched by name.

    Args:
        pred_dir, label_dir: folders of 8-bit images; predictions of one channel, truths read by their first.
        trimap_dir: folder of trimaps of exactly 0, 128 and 255; needed for region "unknown", unused for "whole".
        region: score where the trimap is 128 ("unknown"), or everywhere ("whole").
        allow_missing: score what there is when predictions are missing.
        quantise_trimaps: snap other gray values by `data.trimap.quantise_trimap` instead of refusing them.
        num_workers: processes; 0 and 1 stay in this one, None takes what the machine has and the set is worth.
        progress: draw a bar on stderr if that is a terminal.

    Returns:
        An `Evaluation`. A file that cannot be scored is in its `failed`, and the rest is scored all the same.

    Raises:
        InputError: the folders do not hold a complete, matching set (see `match_folders`), or an argument is wrong.
    """
    if region not in REGIONS:
        raise InputError(f"region: expected one of {', '.join(REGIONS)}, got {region}")
    if region == "unknown" and trimap_dir is None:
        raise InputError("region unknown needs a folder of trimaps; give --trimap-dir, or --region whole")
    if num_workers is not None and num_workers < 0:
        raise InputError(f"number of workers: expected 0 or more, got {num_workers}")

    score_set = match_folders(pred_dir, label_dir, trimap_dir if region == "unknown" else None, allow_missing)
    evaluation = Evaluation(region, score_set.expected, allow_missing, quantise_trimaps, score_set.missing)
    outcomes = _outcomes(score_set.cases, partial(score_case, quantise_trimaps=quantise_trimaps), num_workers)
    bar = tqdm(outcomes, "scoring", len(score_set.cases), unit="image", disable=None if progress else True)
    for name, outcome in bar:
        (evaluation.failed if isinstance(outcome, str) else evaluation.scores)[name] = outcome
    evaluation.scores = dict(sorted(evaluation.scores.items()))
    evaluation.failed = dict(sorted(evaluation.failed.items()))
    return evaluation


def score_case(case: Case, quantise_trimaps: bool = False) -> dict[str, float]:
    """Read the files of one image and score it.

    Raises:
        InputError: a file is unreadable, its size differs from the truth's, it is not 8-bit gray, or the trimap
            holds other values than 0, 128 and 255 and is not to be quantised.
    """
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
    return score_image(pred_alpha, alpha, trimap)


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
    cases: list[Case], score: Callable[[Case], dict[str, float]], num_workers: int | None
) -> Iterator[tuple[str, dict[str, float] | str]]:
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


def _attempt(score: Callable[[Case], dict[str, float]], case: Case) -> dict[str, float] | str:
    try:
        return score(case)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{case.alpha_file}: not enough memory to score it"


def _result(future: Future) -> dict[str, float] | str:
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
