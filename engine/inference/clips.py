"""A video through the jobs of pictures: its frames are streamed, and each kind of result is a video of its own."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data.images.remarks import Remark
from data.video import Clip, Frame, FrameWriter, frame_writer, open_clip
from engine.inference.jobs import Job, Outcome
from engine.inference.pipeline import read_ahead
from engine.inference.sinks import PICTURES
from modeling.meta_arch.base import System
from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST

FRAMES_AHEAD = 2  # decoded before their turn
WARM_UP = 3  # frames that the speed leaves out, and the rest of their batch: libraries are loaded, kernels chosen
LEAST_TIMED = 3  # batches after them, below which a speed is chance
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

    def read(self, remarks: list[Remark] | None = None) -> dict[str, np.ndarray]:
        return {"image": self.frame.image, **self.beside}

    def write(self, predicted: Mapping[str, np.ndarray], model: System) -> None:
        for kind, writer in self.writers.items():
            writer.write(PICTURES[kind](predicted, model), self.frame.pts, self.frame.duration)

    def pass_over(self) -> None:
        """Show the last result once more, so that no other frame moves in time."""
        for writer in self.writers.values():
            writer.repeat(self.frame.pts, self.frame.duration)


@dataclass
class _Batch:
    """Frames that went through the predictor together.

    Attributes:
        size, frames: of them, and those whose outcome is known.
        seconds: a frame in the predictor, 0 where it failed.
        done_at: when the last outcome came, seconds.
    """

    size: int
    seconds: float
    frames: int = 0
    done_at: float = 0


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
        self._batches: list[_Batch] = []

    def __iter__(self) -> Iterator[FrameJob]:
        pairs = zip(self._beside, self.clip, strict=False)  # in this order, so that `beside` sees its end
        for beside, frame in read_ahead(pairs, FRAMES_AHEAD):
            when = float(frame.pts * self.clip.time_base)
            yield FrameJob(self._job.inputs, self._job.outputs, frame, when, self._writers, beside)

    def count(self, outcome: Outcome) -> None:
        """Take note of an outcome, in the moment it comes."""
        if not self._batches or self._batches[-1].frames == self._batches[-1].size:
            self._batches.append(_Batch(outcome.batch, outcome.seconds))
        self._batches[-1].frames += 1
        self._batches[-1].done_at = time.perf_counter()
        if outcome.status == "written":
            self.written += 1
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

    def speed(self) -> str:
        """Frames a second as a line for people: in the predictor alone, and from file to finished file.

        Whole batches are timed, those with the first `WARM_UP` frames left out. Call it when the files are closed: what
        encoders hold back counts.
        """
        closed_at = time.perf_counter()
        first = left_out = 0
        while first < len(self._batches) and left_out < WARM_UP:
            left_out += self._batches[first].frames
            first += 1
        timed = self._batches[first:]
        predicting = [batch.seconds for batch in timed for _ in range(batch.frames) if batch.seconds]
        if len(timed) < LEAST_TIMED or not predicting:
            return (
                f"speed: not measured, it takes {LEAST_TIMED} batches of frames after the {left_out} frames of warming "
                f"up, the clip has {len(timed)}"
            )
        spans = [
            (batch.done_at - before.done_at) / batch.frames
            for before, batch in itertools.pairwise(self._batches[first - 1 :])
            for _ in range(batch.frames)
        ]
        mean_whole = len(spans) / (closed_at - self._batches[first - 1].done_at)
        return (
            f"frames/s, the first {left_out} left out: predicting {1 / statistics.median(predicting):.2f} (median), "
            f"{1 / statistics.fmean(predicting):.2f} (mean); with reading and writing "
            f"{1 / statistics.median(spans):.2f} (median), {mean_whole:.2f} (mean)"
        )


@contextlib.contextmanager
def clip_jobs(job: Job, beside: Iterable[Mapping[str, np.ndarray]] | None = None) -> Iterator[ClipJobs]:
    """Open a clip and a writer for each of a job's outputs, which appear when the block is left without an error.

    Args:
        beside: for each frame what else is read with it.

    Raises:
        InputError: see `open_clip` and `frame_writer`.

    Example:
        with clip_jobs(job) as frames, closing(run_jobs(predictor, frames)) as outcomes:    # written, then closed
            for outcome in outcomes:
                frames.count(outcome)
    """
    with open_clip(job.inputs["image"]) as clip, contextlib.ExitStack() as files:
        writers = {kind: files.enter_context(frame_writer(path, clip)) for kind, path in job.outputs.items()}
        yield ClipJobs(job, clip, writers, itertools.repeat({}) if beside is None else beside)
