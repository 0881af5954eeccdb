"""Signals during training: the first asks the run to save and stop, a second ends it at once."""

import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType

from detectron2.utils import comm

from runtime.command_line import PAST_TENSE, SAME_REQUEST, leave


class TrainingInterrupted(Exception):  # noqa: N818  (not an error: it was requested)
    """A signal ended training after an iteration was finished and saved.

    Attributes:
        signal: number of the signal; the exit status is 128 more.
        iteration: last completed iteration.
        path: checkpoint of this iteration.
    """

    def __init__(self, number: int, iteration: int, path: str | os.PathLike) -> None:
        self.signal, self.iteration, self.path = number, iteration, Path(path)
        super().__init__(
            f"{PAST_TENSE.get(number, 'stopped')} at iteration {iteration}, saved {path}; continue with --resume"
        )


class Interruption:
    """Context in which SIGTERM and SIGINT are recorded and do not end the process.

    The first is kept in `signal` for the training loop to act on. One `SAME_REQUEST` or more later ends the process at
    once, with status 128 + its number and without leaving temporary files. What was ignored, as under nohup, stays
    ignored; outside the main thread, where Python allows no handlers, nothing changes.

    Attributes:
        signal: number of the first signal, 0 before.
    """

    def __init__(self) -> None:
        self.signal, self._noted_at = 0, 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in PAST_TENSE:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None is a handler outside Python
                with contextlib.suppress(ValueError):  # not in the main thread
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if multiprocessing.parent_process() is not None:  # forked, and the handler with it: Ctrl-C is for the parent
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
        elif not self.signal:
            self.signal, self._noted_at = number, time.monotonic()
            if comm.is_main_process():
                name = signal.Signals(number).name
                # not print, which could not be entered again where the signal has cut one in two
                with contextlib.suppress(OSError):
                    os.write(2, f"{name}: finishing the iteration and saving; once more to leave at once\n".encode())
        elif time.monotonic() > self._noted_at + SAME_REQUEST:
            leave(number, frame)
