"""Common parts of the command-line programs, such as their exit status."""

import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from runtime.errors import InputError
from runtime.text import printable

# Errors that are not faults of the program.
MACHINE_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG,
}  # fmt: skip


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status (0 for None), with 2 and one line for InputError, or with 130 for Ctrl-C.

    A full or read-only disk is reported like a user's mistake.
    """
    logging.raiseExceptions = False  # a log file on a full disk must not flood the terminal
    try:
        status = main() or 0
        sys.stdout.flush()  # raises here for a full disk or a closed pipe, while it can still be reported
    except BrokenPipeError:  # for example, "... | head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + 13  # the shell's status for a program that SIGPIPE ended
    except InputError as error:
        tell(f"error: {one_line(error)}")
        status = 2
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        tell(f"error: {error.filename or 'output'}: {error.strerror}")
        status = 2
    except KeyboardInterrupt:
        tell("interrupted")
        status = 130
    sys.exit(status)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Make SIGTERM unwind the program like Ctrl-C inside this context, so that no temporary file remains; status 143.

    Unwinding waits for current reads and writes. A second signal ends the program without waiting. This is for programs
    of one process. An ignored signal, as under nohup, stays ignored.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    replaced = [number for number, handler in usual.items() if signal.getsignal(number) == handler]

    def leave(number: int, frame: FrameType | None) -> None:
        try:
            from runtime.files import discard_unfinished  # already imported if anything is being written

            discard_unfinished()
        finally:
            os._exit(128 + number)

    def unwind(number: int, frame: FrameType | None) -> None:
        for each in replaced:
            signal.signal(each, leave)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        tell("terminated")
        sys.exit(128 + number)

    for number in replaced:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, usual[number])


def tell(text: str, write: Callable[..., None] = print) -> None:
    """Write a line to stderr. If stderr is on a full disk, work continues, and only the status reports the problem."""
    with contextlib.suppress(OSError):
        write(printable(text), file=sys.stderr)


def one_line(error: InputError) -> str:
    """The message of an error. Data-loading processes wrap their errors in a traceback with the message at the end."""
    message = str(error).strip().rpartition(f"{InputError.__name__}: ")[2]
    return printable(message)
