"""Signals while a run trains: the first asks it to save and stop, a second ends it at once."""

import contextlib
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

from detectron2.utils import comm

from data.training.decoded_cache import close_caches
from runtime.command_line import PAST_TENSE
from runtime.files import discard_unfinished

SAME_REQUEST = 1.0  # seconds: one Ctrl-C or `kill` of a group reaches a process directly and through its parent
SO_TIMESTAMPNS = 35  # from linux asm-generic/socket.h; Python has no name for it
TIMESTAMP = struct.Struct("@ll")  # seconds and nanoseconds


class TrainingInterrupted(Exception):  # noqa: N818  (no error: what was asked for)
    """A signal ended training after an iteration was finished and saved.

    Attributes:
        signal: its number; the exit status is 128 more.
        iteration: the last one that was done.
        path: its checkpoint.
    """

    def __init__(self, number: int, iteration: int, path: str | os.PathLike) -> None:
        self.signal, self.iteration, self.path = number, iteration, Path(path)
        super().__init__(
            f"{PAST_TENSE.get(number, 'stopped')} at iteration {iteration}, saved {path}; continue with --resume"
        )


class Interruption:
    """Within this context SIGTERM and SIGINT are noted instead of ending the process.

    The first is kept in `signal` for the training loop to act on. A second one, not just the first's echo, ends the
    process at once, with status 128 + its number and without leaving temporary files. An echo is what arrived up to
    `SAME_REQUEST` after the first was acknowledged, by the kernel's clock: Python handles a signal only when the main
    thread is back from C++, which may be long after. (Where the kernel does not tell the time, on other systems than
    Linux, that of handling has to do.) What was ignored, as under nohup, stays ignored; outside the main thread, where
    Python allows no handlers, nothing changes.

    Attributes:
        signal: number of the first signal, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._acknowledged_at = float("inf")  # seconds since the epoch
        self._process = os.getpid()
        self._previous: dict[int, object] = {}
        self._arrivals: _Arrivals | None = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._arrivals = _Arrivals()
            for number in PAST_TENSE:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's, so not ours
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._arrivals is not None:
            self._arrivals.close()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _pass_on(number)
        elif not self.signal:
            self.signal = number
            self._arrivals.latest()  # room for those to come
            if comm.is_main_process():
                name = signal.Signals(number).name
                _write(f"{name}: finishing the iteration and saving; once more to leave at once\n")
            self._acknowledged_at = time.time()
        elif self._arrivals.latest() > self._acknowledged_at + SAME_REQUEST:
            try:
                discard_unfinished()
                close_caches()
            finally:
                os._exit(128 + number)


class _Arrivals:
    """When signals arrived: Python's C handler writes each into a socket at once, and the kernel stamps it."""

    def __init__(self) -> None:
        self._receiving, self._sending = socket.socketpair(type=socket.SOCK_DGRAM)
        self._receiving.setblocking(False)
        self._sending.setblocking(False)
        if sys.platform.startswith("linux"):
            self._receiving.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._previous = signal.set_wakeup_fd(self._sending.fileno(), warn_on_full_buffer=False)

    def latest(self) -> float:
        """When the last of the signals that are handled now arrived, in seconds since the epoch."""
        times = []
        with contextlib.suppress(BlockingIOError):
            while True:
                number, notes, _, _ = self._receiving.recvmsg(1, socket.CMSG_SPACE(TIMESTAMP.size))
                if number[0] in PAST_TENSE:
                    times += [TIMESTAMP.unpack(stamp) for _, kind, stamp in notes if kind == SO_TIMESTAMPNS]
        # without a stamp it came while Python could handle it, or too many others came before it
        return max((seconds + nanoseconds / 1e9 for seconds, nanoseconds in times), default=time.time())

    def close(self) -> None:
        signal.set_wakeup_fd(self._previous)
        self._receiving.close()
        self._sending.close()


def _pass_on(number: int) -> None:
    """In a forked process that inherited the handler: Ctrl-C is its parent's business, other signals end it."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _write(text: str) -> None:
    """Straight to stderr: a print that the signal has cut in two could not be entered again."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
