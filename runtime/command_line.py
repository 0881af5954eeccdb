"""Common parts of the command-line programs, such as their exit status."""

import contextlib
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from runtime.errors import InputError
from runtime.text import printable

# Errors that are not faults of the program.
MACHINE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG,
}  # fmt: skip
PAST_TENSE = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
SAME_REQUEST = 1.0  # seconds: one Ctrl-C or `kill` of a group can reach a process directly and through its parent


class Terminated(SystemExit):
    """Raised for SIGTERM inside `unwinding`. As for KeyboardInterrupt, arguments end the line that `run` prints."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self.code = 128 + signal.SIGTERM


def signal_of(stop: KeyboardInterrupt | Terminated) -> signal.Signals:
    """The signal that stopped the program."""
    return signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status (0 for None), or with one line and 2 for InputError, 130 for Ctrl-C, 143 for
    SIGTERM in a program that unwinds.

    A full or read-only disk is reported like a user's mistake.
    """
    logging.raiseExceptions = False  # a log file on a full disk must not flood the terminal
    try:
        status = main() or 0
        sys.stdout.flush()  # raises here for a full disk or a closed pipe, while it can still be reported
    except BrokenPipeError:  # for example, "... | head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + 13  # as the shell reports a program that SIGPIPE ended
    except (InputError, OSError) as error:
        explanation = explain(error)
        if explanation is None:
            raise
        tell(f"error: {explanation}")
        status = 2
    except (KeyboardInterrupt, Terminated) as stop:
        number = signal_of(stop)
        tell("; ".join([PAST_TENSE[number], *stop.args]))
        status = 128 + number
    sys.exit(status)


def explain(error: BaseException) -> str | None:
    """Message for an error that the user or the state of the machine caused; None for any other error."""
    if isinstance(error, InputError):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        return f"{error.filename or 'output'}: {error.strerror}"
    return None


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Make SIGTERM unwind the program like Ctrl-C inside this context, so that no temporary file remains.

    Unwinding waits for current reads and writes. A second signal, `SAME_REQUEST` or more after the first, ends the
    program without waiting. An ignored signal, as under nohup, stays ignored.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    replaced = [number for number, handler in usual.items() if signal.getsignal(number) == handler]

    stopped_at = 0.0

    def end(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= stopped_at + SAME_REQUEST:
            leave(number, frame)

    def unwind(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_at
        stopped_at = time.monotonic()
        for each in replaced:
            signal.signal(each, end)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    for number in replaced:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, usual[number])


def leave(number: int, frame: FrameType | None) -> None:
    """Handler of a signal that ends the program at once and removes its temporary files; status 128 + its number."""
    try:
        from runtime.files import discard_unfinished  # already imported if anything is being written

        discard_unfinished()
    finally:
        os._exit(128 + number)


@contextlib.contextmanager
def resumable(folder: str | os.PathLike | None) -> Iterator[None]:
    """Advise to resume with --skip-existing if a signal stops the jobs of a folder inside this context.

    Args:
        folder: folder of the results; None for a single picture, which has nothing to resume.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        if folder is not None:
            stop.args = (f"{folder} keeps the pictures that are done; the same command with --skip-existing continues",)
        raise


def tell(text: str, write: Callable[..., None] = print) -> None:
    """Write a line to stderr. If stderr is on a full disk, work continues, and only the status reports the problem."""
    with contextlib.suppress(OSError):
        write(printable(text), file=sys.stderr)


def one_line(error: InputError) -> str:
    """The message of an error. Data-loading processes wrap their errors in a traceback with the message at the end."""
    message = str(error).strip().rpartition(f"{InputError.__name__}: ")[2]
    return printable(message)
