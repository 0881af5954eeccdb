"""A video through the jobs of pictures: its frames are streamed, and each kind of result is a video of its own."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data.video import Clip, Frame, FrameWriter, frame_writer, open_clip
from engine.inference.jobs import Job, Outcome
from engine.inference.pipeline import read_ahead
from engine.inference.sinks import PICTURES
from modeling.meta_arch.base import System
from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST

FRAMES_AHEAD = 2  # decoded before their turn
WARM_UP = 3  # frames that the speed leaves out: libraries are loaded and kernels chosen at the first
MOST_FAILED = 0.01  # share of frames that may fail in a run that counts as done


@dataclass(frozen=True, eq=False)
class FrameJob(Job):
    """One frame, in memory already; its results go to the writers of the clip.

    Attributes:
        when: seconds from the start of the clip.
        writers: by kind of result.
        beside: what else is read with it, such as its "trimap".
    """

    frame: Frame
    when: float
    writers: Mapping[str, FrameWriter]
    beside: Mapping[str, np.ndarray]

    @property
    def label(self) -> str:
        return f"{self.inputs['image']} at {self.when:.2f} s"

    def size(self) -> tuple[int, int]:
        return self.frame.image.shape[:2]

    def read(self) -> dict[str, np.ndarray]:
        return {"image": self.frame.image, **self.beside}

    def write(self, predicted: Mapping[str, np.ndarray], model: System) -> None:
        for kind, writer in self.writers.items():
            writer.write(PICTURES[kind](predicted, model), self.frame.pts, self.frame.duration)

    def pass_over(self) -> None:
        """Show the last result once more, so that no other frame moves in time."""
        for writer in self.writers.values():
            writer.repeat(self.frame.pts, self.frame.duration)


class ClipJobs:
    """The jobs of a clip's frames, in their order, and how they went.

    Attributes:
        clip: what is read.
        written, failed: frames so far; a failed one shows the result before it.
        failures: why the first few failed.
    """

    def __init__(
        self, job: Job, clip: Clip, writers: Mapping[str, FrameWriter], beside: Iterable[Mapping[str, np.ndarray]]
    ) -> None:
        self.clip = clip
        self.failures: list[str] = []
        self._beside = beside
        self.written = self.failed = 0
        self._job, self._writers = job, writers
        self._model_seconds: list[float] = []
        self._done_at: list[float] = []

    def __iter__(self) -> Iterator[FrameJob]:
        pairs = zip(self._beside, self.clip, strict=False)  # in this order, so that `beside` sees its end
        for beside, frame in read_ahead(pairs, FRAMES_AHEAD):
            when = float(frame.pts * self.clip.time_base)
            yield FrameJob(self._job.inputs, self._job.outputs, frame, when, self._writers, beside)

    def count(self, outcome: Outcome) -> None:
        """Take note of an outcome, in the moment it comes."""
        self._done_at.append(time.perf_counter())
        if outcome.status == "written":
            self.written += 1
            self._model_seconds.append(outcome.seconds)
        else:
            self.failed += 1
            if len(self.failures) < NAMED_AT_MOST:
                self.failures.append(outcome.remark)

    def require_some(self) -> None:
        """Refuse a clip of which no frame could be predicted; called before the files appear.

        Raises:
            InputError: why the first frame failed.
        """
        if not self.written:
            raise InputError(f"no frame could be predicted: {self.failures[0]}")

    def notes(self) -> list[str]:
        """Lines for the user about the files and the frames, "warning: ..." or "error: ..."."""
        of_files = dict.fromkeys(remark for writer in self._writers.values() for remark in writer.remarks)
        lines = [f"warning: {remark}" for remark in of_files]
        if self.clip.damaged:
            lines.append(f"warning: {self.clip.path}: {self.clip.damaged} frames are damaged")
        if self.clip.ends_early:
            lines.append(f"error: {self.clip.path}: {self.clip.ends_early}; what there is was written")
        return lines

    def is_done(self) -> bool:
        """Whether enough frames succeeded: no more than 1 % failed, and the file did not end early."""
        lost = self.failed + self.clip.missing()
        return not self.clip.ends_early and lost <= MOST_FAILED * (self.written + lost)

    def speed(self, batch_size: int = 1) -> str:
        """Frames a second as a line for people: in the predictor alone, and from file to finished file.

        Call it when the files are closed: what encoders hold back counts.
        """
        closed_at = time.perf_counter()
        model, done = self._model_seconds[WARM_UP:], self._done_at[WARM_UP - 1 :]
        spans = [(b - a) / batch_size for a, b in zip(done, done[batch_size:], strict=False)]
        if not model or not spans:
            return f"speed: not measured, the clip has no more than the {WARM_UP} frames of warming up"
        mean_whole = (len(done) - 1) / (closed_at - done[0])
        return (
            f"frames/s, the first {WARM_UP} left out: predicting {1 / statistics.median(model):.2f} (median), "
            f"{1 / statistics.fmean(model):.2f} (mean); with reading and writing {1 / statistics.median(spans):.2f} "
            f"(median), {mean_whole:.2f} (mean)"
        )


@contextlib.contextmanager
def clip_jobs(job: Job, beside: Iterable[Mapping[str, np.ndarray]] | None = None) -> Iterator[ClipJobs]:
    """Open a clip and a writer for each of a job's outputs, which appear when the block is left without an error.

    Args:
        beside: for each frame what else is read with it.

    Raises:
        InputError: see `open_clip` and `frame_writer`.

    Example:
        >>> with clip_jobs(job) as frames, closing(run_jobs(predictor, frames)) as outcomes:    # written, then closed
        ...     for outcome in outcomes:
        ...         frames.count(outcome)
    """
    with open_clip(job.inputs["image"]) as clip, contextlib.ExitStack() as files:
        writers = {kind: files.enter_context(frame_writer(path, clip)) for kind, path in job.outputs.items()}
        yield ClipJobs(job, clip, writers, itertools.repeat({}) if beside is None else beside)
