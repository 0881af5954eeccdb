"""Signals during training: the first asks the run to save and stop, a second ends it at once."""

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
from runtime.files import discard_unfinished

SAME_REQUEST = 1.0  # seconds; Ctrl-C or `kill` of a group reaches a process directly and through its parent
SO_TIMESTAMPNS = 35  # from Linux's asm-generic/socket.h; Python has no name for it
TIMESTAMP = struct.Struct("@ll")  # seconds and nanoseconds
PAST_TENSE = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


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

    The first is stored in `signal` for the training loop. A second signal that is not an echo of the first ends the
    process at once, with status 128 + its number and without temporary files. An echo is a signal that arrived up to
    `SAME_REQUEST` after the first was acknowledged, by the kernel's clock, because Python handles a signal only when
    the main thread returns from C++, which may be much later. (Systems other than Linux do not report the time of
    arrival, so the time of handling is used there.) Ignored signals, as under nohup, stay ignored. Outside the main
    thread, where Python allows no handlers, nothing changes.

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
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None is a handler outside Python
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
            self._arrivals.latest()  # empties the socket for later signals
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
    """Arrival times of signals. Python's C handler writes each into a socket, and the kernel adds a timestamp."""

    def __init__(self) -> None:
        self._receiving, self._sending = socket.socketpair(type=socket.SOCK_DGRAM)
        self._receiving.setblocking(False)
        self._sending.setblocking(False)
        if sys.platform.startswith("linux"):
            self._receiving.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._previous = signal.set_wakeup_fd(self._sending.fileno(), warn_on_full_buffer=False)

    def latest(self) -> float:
        """Arrival time of the last signal that is handled now, in seconds since the epoch."""
        times = []
        with contextlib.suppress(BlockingIOError):
            while True:
                number, notes, _, _ = self._receiving.recvmsg(1, socket.CMSG_SPACE(TIMESTAMP.size))
                if number[0] in PAST_TENSE:
                    times += [TIMESTAMP.unpack(stamp) for _, kind, stamp in notes if kind == SO_TIMESTAMPNS]
        # Without a timestamp it arrived while Python could handle it, or too many others arrived before.
        return max((seconds + nanoseconds / 1e9 for seconds, nanoseconds in times), default=time.time())

    def close(self) -> None:
        signal.set_wakeup_fd(self._previous)
        self._receiving.close()
        self._sending.close()


def _pass_on(number: int) -> None:
    """Handle a signal in a forked process: Ctrl-C is left to the parent, other signals end the process."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _write(text: str) -> None:
    """Write directly to stderr, because a print that the signal interrupted cannot be entered again."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
