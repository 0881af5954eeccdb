"""Pipeline of jobs: the next images are decoded and the last results are written while the model runs."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from data.images.remarks import Remark
from engine.inference.jobs import Job, Outcome, failure, remark_on_trimap
from engine.inference.predict import Plan, Predictor
from engine.inference.sinks import SHOW_IMAGE
from modeling.meta_arch.base import System
from runtime.device import synchronise
from runtime.errors import InputError

READ_AHEAD = 1  # batches that are decoded in advance; image and trimap take 4 bytes per pixel, deep colours 12 more
WRITE_BEHIND = 1  # batches whose mattes are being written

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Loaded:
    """A job in progress with its pictures, then its predictions, or its outcome as soon as it is known."""

    job: Job
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    predicted: Mapping[str, np.ndarray] = field(default_factory=dict)
    remark: str = ""
    read_as: tuple[Remark, ...] = ()
    outcome: Outcome | None = None
    seconds: float = 0
    batch: int = 1


def run_jobs(
    predictor: Predictor,
    jobs: Iterable[Job],
    *,
    skip_existing: bool = False,
    announce: Callable[[Job, Plan], None] = lambda job, plan: None,
) -> Iterator[Outcome]:
    """Do the jobs and yield an outcome for each. An unusable file does not stop the other jobs.

    If the predictor has a batch size above 1, images with equal padded shapes share a batch, and the jobs of a sequence
    are sorted by shape. Otherwise, and for a stream, the order is unchanged.

    Args:
        skip_existing: whether jobs whose outputs exist are skipped.
        announce: function that is called with the first job of a batch and the plan, before the batch is predicted.

    Raises:
        InputError: a file cannot be written. The run ends, because the next file could not be written either.
    """
    with ThreadPoolExecutor(1, "decode") as decoder, ThreadPoolExecutor(1, "encode") as encoder:
        batches = _batches(predictor, jobs, skip_existing)
        loaded = _ahead(decoder, lambda batch: [_read(item) for item in batch], batches, READ_AHEAD)
        predicted = (_predict(predictor, batch, announce) for batch in loaded)  # in this thread, one at a time
        write = partial(_write_all, predictor.model)
        try:
            for outcomes in _ahead(encoder, write, predicted, WRITE_BEHIND):
                yield from outcomes
        finally:  # also on Ctrl-C: files that are being written are completed, other work is dropped
            decoder.shutdown(cancel_futures=True)
            encoder.shutdown(cancel_futures=True)


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield the items of an iterator that another thread advances, up to `depth` items ahead."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "read") as reader:
        for item in _ahead(reader, lambda _: next(iterator, end), itertools.repeat(None), depth):
            if item is end:
                return
            yield item


def _ahead(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[Result]:
    """Yield the results in order, with up to `depth` more items submitted to the executor."""
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
        if skip_existing and job.is_done():
            yield [_Loaded(job, outcome=Outcome(job, "skipped", "exists"))]
            continue
        if batch and (next_shape != shape or len(batch) >= predictor.batch_size_for(shape)):
            yield batch
            batch = []
        batch.append(_Loaded(job))
        shape = next_shape
        if shape is None:  # now, so that a skipped job after this one does not overtake it
            yield batch
            batch = []
    if batch:
        yield batch


def _shaped(predictor: Predictor, jobs: Iterable[Job]) -> Iterable[tuple[Job, tuple[int, int] | None]]:
    """Pair each job with the shape that must be equal within a batch; None for a batch of its own."""
    if predictor.batch_size == 1:
        return ((job, None) for job in jobs)
    if not isinstance(jobs, Sequence):  # a stream, such as the frames of a clip, which have one size
        return ((job, _padded_shape(predictor, job)) for job in jobs)
    shaped = [(job, _padded_shape(predictor, job)) for job in jobs]
    return sorted(shaped, key=lambda pair: pair[1] or (0, 0))  # stable: by name within a shape


def _padded_shape(predictor: Predictor, job: Job) -> tuple[int, int] | None:
    try:
        return predictor.padded_shape(*job.size())
    except InputError:  # reported when the file is read
        return None


def _read(item: _Loaded) -> _Loaded:
    if item.outcome is not None:
        return item
    try:
        read_as: list[Remark] = []
        inputs = item.job.read(read_as)
        return replace(item, inputs=inputs, remark=remark_on_trimap(item.job, inputs), read_as=tuple(read_as))
    except InputError as error:
        return _failed(item, error)
    except MemoryError:
        return _failed(item, InputError("reading it takes more memory than is available; make it smaller"))


def _predict(predictor: Predictor, batch: Sequence[_Loaded], announce: Callable[[Job, Plan], None]) -> list[_Loaded]:
    ready = [item for item in batch if item.outcome is None]
    done = [item for item in batch if item.outcome is not None]
    if not ready:
        return done
    failure = None
    try:
        plan = predictor.plan(*ready[0].inputs["image"].shape[:2])
        announce(ready[0].job, plan)
        start = time.perf_counter()
        predicted = predictor([item.inputs for item in ready], plan)
        synchronise(predictor.device)
        seconds = (time.perf_counter() - start) / len(ready)
    except InputError as error:
        failure = InputError(str(error))  # a new error, because the traceback keeps the batch's tensors alive
    if failure is not None and len(ready) == 1:
        return [*done, _failed(ready[0], failure)]
    if failure is not None:  # predict one by one, to find the failing image
        return [*done, *(part for item in ready for part in _predict(predictor, [item], announce))]
    remark = predictor.remark
    if predictor.used_plan != plan:
        remark = f"memory ran out, predicting {plan}; predicted {predictor.used_plan}"
    return [
        *done,
        *(
            replace(
                item,
                inputs={},
                predicted=_to_write(item, arrays),
                remark=item.remark or (remark and f"{item.job.label}: {remark}"),
                seconds=seconds,
                batch=len(ready),
            )
            for item, arrays in zip(ready, predicted, strict=True)
        ),
    ]


def _to_write(item: _Loaded, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not SHOW_IMAGE & item.job.outputs.keys():
        return arrays
    return {**arrays, **{name: item.inputs[name] for name in ("image", "deep_colours") if name in item.inputs}}


def _write_all(model: System, batch: Sequence[_Loaded]) -> list[Outcome]:
    return [_write(item, model) for item in batch]


def _write(item: _Loaded, model: System) -> Outcome:
    if item.outcome is not None:
        item.job.pass_over()
        return item.outcome
    item.job.write(item.predicted, model)
    return Outcome(item.job, "written", item.remark, item.seconds, item.batch, item.read_as)


def _failed(item: _Loaded, error: InputError) -> _Loaded:
    return _Loaded(item.job, outcome=failure(item.job, str(error)))
