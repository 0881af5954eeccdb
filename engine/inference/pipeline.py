"""Files through a predictor: the next images are decoded and the last mattes written while the model runs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from data.images.files import read_size, write_png
from data.images.trimap import UNKNOWN
from engine.inference.jobs import Job, Outcome, read_pair
from engine.inference.predict import Plan, Predictor
from runtime.errors import InputError

READ_AHEAD = 1  # batches decoded before their turn; each holds image and trimap, 4 bytes a pixel
WRITE_BEHIND = 1  # batches whose mattes are on their way to the disk

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Loaded:
    """A job under way: its pictures, or its outcome where that is known already."""

    job: Job
    image: np.ndarray | None = None
    trimap: np.ndarray | None = None
    alpha: np.ndarray | None = None
    outcome: Outcome | None = None


def run_jobs(
    predictor: Predictor,
    jobs: Iterable[Job],
    *,
    skip_existing: bool = False,
    announce: Callable[[Job, Plan], None] = lambda job, plan: None,
) -> Iterator[Outcome]:
    """Make the mattes, yielding an outcome for each job; one bad file does not stop the others.

    Images whose padded shapes agree go through the model together where the predictor takes more than one at a time;
    then the jobs are done in the order of shapes, otherwise in the order given. `announce` is told, before a batch is
    predicted, its first job and how.

    Raises:
        InputError: a matte cannot be written; the next could not either.
    """
    with ThreadPoolExecutor(1, "decode") as decoder, ThreadPoolExecutor(1, "encode") as encoder:
        batches = _batches(predictor, jobs, skip_existing)
        loaded = _ahead(decoder, lambda batch: [_read(item) for item in batch], batches, READ_AHEAD)
        predicted = (_predict(predictor, batch, announce) for batch in loaded)  # in this thread, one by one
        try:
            for outcomes in _ahead(encoder, lambda batch: [_write(item) for item in batch], predicted, WRITE_BEHIND):
                yield from outcomes
        finally:  # on Ctrl-C too: what is being written is finished, the rest is dropped
            decoder.shutdown(cancel_futures=True)
            encoder.shutdown(cancel_futures=True)


def _ahead(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Yield the results in order, with up to `depth` more items handed to the executor."""
    waiting = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(predictor: Predictor, jobs: Iterable[Job], skip_existing: bool) -> Iterator[list[_Loaded]]:
    batch, shape = [], None
    for job, next_shape in _shaped(predictor, jobs):
        if skip_existing and job.output.is_file():
            yield [_Loaded(job, outcome=Outcome(job, "skipped", "exists"))]
            continue
        full = shape is not None and len(batch) >= predictor.batch_size_for(shape)
        if batch and (full or next_shape != shape or shape is None):
            yield batch
            batch = []
        batch.append(_Loaded(job))
        shape = next_shape
    if batch:
        yield batch


def _shaped(predictor: Predictor, jobs: Iterable[Job]) -> Iterable[tuple[Job, tuple[int, int] | None]]:
    """Pair each job with what must agree within a batch; None for a job that goes alone."""
    if predictor.batch_size == 1:
        return ((job, None) for job in jobs)
    shaped = [(job, _padded_shape(predictor, job)) for job in jobs]
    return sorted(shaped, key=lambda pair: pair[1] or (0, 0))  # stable: by name within a shape


def _padded_shape(predictor: Predictor, job: Job) -> tuple[int, int] | None:
    try:
        return predictor.padded_shape(*read_size(job.image))
    except InputError:  # told when it is read
        return None


def _read(item: _Loaded) -> _Loaded:
    if item.outcome is not None:
        return item
    try:
        image, trimap = read_pair(item.job)
        return replace(item, image=image, trimap=trimap)
    except InputError as error:
        return _failed(item, error)
    except MemoryError:
        return _failed(item, InputError("reading it takes more memory than there is; make it smaller"))


def _predict(predictor: Predictor, batch: Sequence[_Loaded], announce: Callable[[Job, Plan], None]) -> list[_Loaded]:
    ready = [item for item in batch if item.outcome is None]
    done = [item for item in batch if item.outcome is not None]
    if not ready:
        return done
    failure = None
    try:
        plan = predictor.plan(*ready[0].trimap.shape)
        announce(ready[0].job, plan)
        alphas = predictor([item.image for item in ready], [item.trimap for item in ready], plan)
    except InputError as error:
        failure = InputError(str(error))  # whose traceback does not keep the failed batch's tensors alive
    if failure is not None and len(ready) == 1:
        return [*done, _failed(ready[0], failure)]
    if failure is not None:  # which one was it
        return [*done, *(part for item in ready for part in _predict(predictor, [item], announce))]
    pairs = zip(ready, alphas, strict=True)
    return [*done, *(replace(item, image=None, alpha=alpha) for item, alpha in pairs)]


def _write(item: _Loaded) -> Outcome:
    if item.outcome is not None:
        return item.outcome
    write_png(item.job.output, item.alpha)
    if (item.trimap == UNKNOWN).any():
        return Outcome(item.job, "written")
    remark = f"{item.job.trimap}: no unknown pixel (gray 85 to 169); the matte is the trimap"
    return Outcome(item.job, "written", remark)


def _failed(item: _Loaded, error: InputError) -> _Loaded:
    message = str(error)
    is_named = str(item.job.image) in message or str(item.job.trimap) in message
    remark = message if is_named else f"{item.job.image}: {message}"
    return _Loaded(item.job, outcome=Outcome(item.job, "failed", remark))
