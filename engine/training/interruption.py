"""Signals during training: after the first, the run saves and stops; a second ends it at once."""

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

    The first signal is stored in `signal`, and the training loop reacts to it. A second signal, `SAME_REQUEST` or more
    seconds later, ends the process at once with status 128 + its number and removes temporary files. Signals that were
    ignored before, as under nohup, stay ignored. Outside the main thread Python does not allow signal handlers, so this
    context has no effect there.

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
        if multiprocessing.parent_process() is not None:  # forked with this handler; Ctrl-C is for the parent
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
        elif not self.signal:
            self.signal, self._noted_at = number, time.monotonic()
            if comm.is_main_process():
                name = signal.Signals(number).name
                # not print, which cannot be called again if the signal interrupted a print
                with contextlib.suppress(OSError):
                    os.write(2, f"{name}: finishing the iteration and saving; send it again to end at once\n".encode())
        elif time.monotonic() > self._noted_at + SAME_REQUEST:
            leave(number, frame)
