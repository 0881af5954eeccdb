"""Clips through the pipeline of jobs: frames are streamed, and each kind of result becomes a video of its own."""

import contextlib
import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.images.remarks import Remark
from data.video import Clip, Frame, FrameWriter, frame_writer, open_clip
from data.video.writing import is_pattern, part_of
from engine.inference.jobs import Job, Outcome
from engine.inference.pipeline import Item, read_ahead, run_jobs
from engine.inference.predict import Plan, Predictor
from engine.inference.sinks import PICTURES, with_colours
from engine.inference.stopwatch import Stopwatch
from modeling.meta_arch.base import System
from runtime.command_line import tell
from runtime.errors import InputError
from runtime.files import hash_file
from runtime.text import NAMED_AT_MOST, printable

FRAMES_AHEAD = 2  # number of frames that are decoded ahead
WARM_UP = 3  # first frames, not timed with the rest of their batch: libraries are loaded, kernels chosen
LEAST_TIMED = 3  # number of later batches below which a speed would be unreliable
MOST_FAILED = 0.01  # share of frames that may fail in a run that counts as done


@dataclass(frozen=True, eq=False)
class FrameJob(Job):
    """A job of one frame, which is already in memory. Its results go to the writers of the clip.

    Attributes:
        frame: the frame with its timestamp.
        when: seconds from the start of the clip.
        writers: writer for each kind of result.
        sample: inputs of the predictor: the "image", further inputs such as the "trimap" and, for predictors that use
            other frames, the samples of these (see `ClipMatte`).
        watch: stopwatch for the time of writing.
    """

    frame: Frame
    when: float
    writers: Mapping[str, FrameWriter]
    sample: Mapping[str, Any]
    watch: Stopwatch

    @property
    def label(self) -> str:
        return f"{self.inputs['image']} at {self.when:.2f} s"

    def size(self) -> tuple[int, int]:
        return self.frame.image.shape[:2]

    def read(self, remarks: list[Remark] | None = None) -> Mapping[str, Any]:
        return self.sample

    def write(self, predicted: Mapping[str, np.ndarray], model: System) -> None:
        with self.watch.part("writing"):
            predicted = with_colours(predicted, self.outputs, self.background)
            for kind, writer in self.writers.items():
                writer.write(PICTURES[kind](predicted, model), self.frame.pts, self.frame.duration)
        self.watch.lap()

    def pass_over(self) -> None:
        """Repeat the last result, so that the other frames keep their times."""
        for writer in self.writers.values():
            writer.repeat(self.frame.pts, self.frame.duration)


@dataclass
class _Batch:
    """Frames that were predicted together.

    Attributes:
        size: number of its frames.
        seconds: seconds per frame in the predictor, 0 if the prediction failed.
        frames: number of its frames whose outcome is known.
        done_at: time of the last outcome in seconds.
    """

    size: int
    seconds: float
    frames: int = 0
    done_at: float = 0


class ClipJobs:
    """The jobs of a clip's frames in their order, and a record of their outcomes.

    Args:
        job: the clip and its outputs.
        clip: the opened clip.
        writers: writer for each kind of result.
        beside: further inputs of each frame, such as its trimap.
        look_back, look_ahead: number of frames before and after a frame that its prediction depends on.

    Attributes:
        clip: the opened clip.
        first: index of the first frame to predict; an earlier run has done those before it.
        written, failed: number of frames so far, including those of earlier runs. A failed frame repeats the result
            before it.
        failures: reasons of the first few failures.
        warnings: remarks of the first few frames that were written with one.
        remarks: number of outcomes with a remark.
        reading, writing: stopwatches for each frame.
    """

    def __init__(
        self,
        job: Job,
        clip: Clip,
        writers: Mapping[str, FrameWriter],
        beside: Iterable[Mapping[str, np.ndarray]],
        look_back: int = 0,
        look_ahead: int = 0,
    ) -> None:
        self.clip = clip
        self.failures: list[str] = []
        self.warnings: list[str] = []
        self.reading, self.writing = Stopwatch(), Stopwatch()
        self.first = min((writer.done for writer in writers.values()), default=0)
        self.failed = max((writer.go_on_after(self.first) for writer in writers.values()), default=0)
        self.written = self.first - self.failed
        self._beside, self._look_back, self._look_ahead = beside, look_back, look_ahead
        self._job, self._writers = job, writers
        self._batches: list[_Batch] = []
        self.remarks = 0

    def __iter__(self) -> Iterator[FrameJob]:
        preceding: list[Mapping[str, Any]] = []
        for (frame, sample), following in looking_ahead(read_ahead(self._read(), FRAMES_AHEAD), self._look_ahead):
            if sample["number"] < self.first:
                preceding = [*preceding, sample][-self._look_back :] if self._look_back else []
                continue
            if self._look_ahead:
                sample = {**sample, "preceding": preceding, "following": [next_sample for _, next_sample in following]}
            preceding = []
            when = float(frame.pts * self.clip.time_base)
            yield FrameJob(
                self._job.inputs,
                self._job.outputs,
                frame,
                when,
                self._writers,
                sample,
                self.writing,
                background=self._job.background,
            )

    def _read(self) -> Iterator[tuple[Frame, Mapping[str, Any]]]:
        pairs = zip(self._beside, self.clip, strict=False)  # in this order, so that `beside` sees its end
        for number in itertools.count():
            with self.reading.part("reading"):
                pair = next(pairs, None)
            if pair is None:
                return
            self.reading.lap()
            beside, frame = pair
            yield frame, {"image": frame.image, "number": number, **beside}

    def count(self, outcome: Outcome) -> None:
        """Record an outcome. Call it as soon as the outcome is known, because the time counts."""
        if not self._batches or self._batches[-1].frames == self._batches[-1].size:
            self._batches.append(_Batch(outcome.batch, outcome.seconds))
        self._batches[-1].frames += 1
        self._batches[-1].done_at = time.perf_counter()
        self.remarks += bool(outcome.remark)
        if outcome.status == "written":
            self.written += 1
            if outcome.remark and len(self.warnings) < NAMED_AT_MOST:
                self.warnings.append(outcome.remark)
        else:
            self.failed += 1
            if len(self.failures) < NAMED_AT_MOST:
                self.failures.append(outcome.remark)

    def require_some(self) -> None:
        """Refuse a clip if no frame could be predicted. Call it before the output files appear.

        Raises:
            InputError: every frame failed; the message has the reason of the first.
        """
        if not self.written:
            raise InputError(f"no frame could be predicted: {self.failures[0]}")

    def parts(self, watch: Stopwatch) -> str:
        """Seconds per frame of each part, as a line of text; empty if too few frames were timed (see `speed`).

        Args:
            watch: stopwatch of the predictor.
        """
        watches = {self.reading: 0, watch: self._look_ahead, self.writing: 0}  # last laps that did no work
        if any(len(each.laps) - last - WARM_UP < LEAST_TIMED for each, last in watches.items()):
            return ""
        summary = {}
        for each, last in watches.items():
            summary |= each.summary(WARM_UP, last)
        cells = ", ".join(f"{name} {median:.3f}, {mean:.3f}" for name, (median, mean) in summary.items())
        return f"seconds per frame (median, mean), partly in parallel: {cells}"

    def notes(self) -> list[str]:
        """Lines for the user about the files and the frames. Each begins with "warning: " or "error: "."""
        of_files = dict.fromkeys(remark for writer in self._writers.values() for remark in writer.remarks)
        lines = [f"warning: {remark}" for remark in of_files]
        if self.clip.damaged:
            lines.append(f"warning: {self.clip.path}: {self.clip.damaged} frames are damaged")
        if self.clip.ends_early:
            lines.append(f"error: {self.clip.path}: {self.clip.ends_early}; the available frames were written")
        return lines

    def is_done(self) -> bool:
        """Return whether the clip counts as done: at most 1 % of the frames failed, and the file did not end early."""
        lost = self.failed + self.clip.missing()
        return not self.clip.ends_early and lost <= MOST_FAILED * (self.written + lost)

    def _time_of_all(self) -> str:
        """Line with the time of a clip that is too short for a speed."""
        seconds = [batch.seconds for batch in self._batches for _ in range(batch.frames) if batch.seconds]
        if not seconds:
            return "speed: no frame was predicted"
        frames = f"{len(seconds)} frame{'s' if len(seconds) > 1 else ''}"
        return (
            f"speed: {frames} took {sum(seconds):.2f} s to predict; frames/s are reported for clips with at least "
            f"{LEAST_TIMED} batches after the first {WARM_UP} frames, which take longer"
        )

    def speed(self) -> str:
        """Frames per second of the prediction alone and from file to finished file, as a line of text.

        If the clip is too short for that, the line has the time of all its frames.

        Only whole batches are timed, without those that contain the first `WARM_UP` frames. A predictor that looks
        ahead works on later frames before their turn, so the last frames take less time, and means exclude as many
        frames. Call this method after the files are closed, because encoders hold frames back until then.
        """
        closed_at = time.perf_counter()
        first = left_out = 0
        while first < len(self._batches) and left_out < WARM_UP:
            left_out += self._batches[first].frames
            first += 1
        timed = self._batches[first:]
        predicting = [batch.seconds for batch in timed for _ in range(batch.frames) if batch.seconds]
        ahead = self._look_ahead
        if len(timed) - ahead < LEAST_TIMED or len(predicting) <= ahead:
            return self._time_of_all()
        spans = [
            (batch.done_at - before.done_at) / batch.frames
            for before, batch in itertools.pairwise(self._batches[first - 1 :])
            for _ in range(batch.frames)
        ]
        mean_whole = (len(spans) - ahead) / (closed_at - self._batches[first - 1].done_at)
        return (
            f"frames/s without the first {left_out}: predicting {1 / statistics.median(predicting):.2f} (median), "
            f"{(len(predicting) - ahead) / sum(predicting):.2f} (mean); with reading and writing "
            f"{1 / statistics.median(spans):.2f} (median), {mean_whole:.2f} (mean)"
        )


def looking_ahead(items: Iterable[Item], count: int) -> Iterator[tuple[Item, list[Item]]]:
    """Pair each item with the `count` items that follow it. Near the end there are fewer.

    Example:
        >>> list(looking_ahead("abc", 1))
        [('a', ['b']), ('b', ['c']), ('c', [])]
    """
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft(), list(waiting)
    while waiting:
        yield waiting.popleft(), list(waiting)


@contextlib.contextmanager
def clip_jobs(
    job: Job,
    beside: Iterable[Mapping[str, np.ndarray]] | None = None,
    look_back: int = 0,
    look_ahead: int = 0,
    settings: Mapping[str, str] | None = None,
    resume: bool = False,
) -> Iterator[ClipJobs]:
    """Open a clip and a writer for each output of a job. The outputs appear if the block ends without an error.

    Args:
        beside: further inputs of each frame, such as its trimap.
        look_back, look_ahead: frames that a prediction depends on; see `ClipJobs`.
        settings, resume: see `frame_writer`.

    Raises:
        InputError: see `open_clip` and `frame_writer`.

    Example:
        with clip_jobs(job) as frames, closing(run_jobs(predictor, frames)) as outcomes:    # written, then closed
            for outcome in outcomes:
                frames.count(outcome)
    """
    with open_clip(job.inputs["image"]) as clip, contextlib.ExitStack() as files:
        writers = {
            kind: files.enter_context(frame_writer(path, clip, settings=settings, resume=resume))
            for kind, path in job.outputs.items()
        }
        yield ClipJobs(job, clip, writers, itertools.repeat({}) if beside is None else beside, look_back, look_ahead)


def predict_clip(
    predictor: Predictor,
    job: Job,
    *,
    settings: Mapping[str, str] | None = None,
    beside: Iterable[Mapping[str, np.ndarray]] | None = None,
    skip_existing: bool = False,
    announce: Callable[[Job, Plan], None] = lambda job, plan: None,
    watch: Stopwatch | None = None,
) -> int:
    """Predict one clip, with progress and a summary for the user.

    Args:
        predictor: a `Predictor`, or an object with its interface, such as a `ClipMatte`.
        settings: settings of the run from `settings_of`. With them, numbered frames are kept if the run is stopped.
        beside: further inputs of each frame, such as its trimap.
        skip_existing: whether a clip with complete outputs is skipped, and numbered frames are continued.
        announce: see `run_jobs`.
        watch: stopwatch of the predictor, if the time of its parts is to be printed.

    Returns:
        the exit status: 0, or 2 if more than 1 % of the frames failed or the clip ended early.

    Raises:
        InputError: see `clip_jobs`; or no frame could be predicted.
    """
    place = next(iter(job.outputs.values()))
    if skip_existing and job.is_done():
        print(printable(f"{place}: exists, skipped"))
        return 0
    if skip_existing and not is_pattern(place):
        tell(
            f"warning: {place}: a video file starts from the beginning after a stop; use numbered frames "
            "(DIR/%06d.png) to continue"
        )
    window = predictor.look_back, predictor.look_ahead
    try:
        with (
            clip_jobs(job, beside, *window, settings, skip_existing) as frames,
            closing(run_jobs(predictor, frames, announce=announce)) as outcomes,
            tqdm(total=frames.clip.num_frames or None, initial=frames.first, unit="frame", disable=None) as progress,
        ):
            if frames.first:
                tell(f"{place}: continues after {frames.first} frames of an earlier run", progress.write)
            for outcome in outcomes:
                frames.count(outcome)
                if outcome.remark and frames.remarks <= NAMED_AT_MOST:
                    label = "error" if outcome.status == "failed" else "warning"
                    tell(f"{label}: {outcome.remark}", progress.write)
                progress.update()
            frames.require_some()
    except BaseException:
        if is_pattern(place) and part_of(place).exists():
            tell(f"{part_of(place)}: contains the finished frames; the same command with --skip-existing continues")
        raise
    for note in frames.notes():
        tell(note)
    print(printable(f"{place}: {frames.written} frames written, {frames.failed} failed, on {predictor.device}"))
    print(frames.speed())
    if watch is not None and (parts := frames.parts(watch)):
        print(parts)
    return 0 if frames.is_done() else 2


def settings_of(options: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, str]:
    """Settings that determine the frames of a run, as text. Named files are represented by their hashes.

    Args:
        options: options of a command by name.
        without: names of options that do not change the frames.
    """
    return {name: _as_text(value) for name, value in sorted(options.items()) if name not in without}


def _as_text(value: Any) -> str:
    path = Path(value) if isinstance(value, str | Path) and str(value) else None
    if path is None or not path.exists():
        return repr(value)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return ", ".join(f"{file.name} (sha256 {hash_file(file)})" for file in files)
