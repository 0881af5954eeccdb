"""What every script at the root shares: how it ends."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from data.errors import InputError

MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}  # no fault of the program, wherever met


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and leave: its status (0 when None), 2 and one line for a user's mistake, 130 for Ctrl-C.

    A disk that is full or read-only is reported like a mistake.
    """
    logging.raiseExceptions = False  # a log file on a full disk must not fill the terminal
    try:
        status = main() or 0
        sys.stdout.flush()  # here a full disk or a closed pipe is met while it can be told
    except BrokenPipeError:  # "... | head" has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + 13  # as the shell reports a program that SIGPIPE ended
    except InputError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 2
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def one_line(error: InputError) -> str:
    """The message itself: a data-loading process sends its errors wrapped in a traceback, the message last."""
    last_line = str(error).strip().splitlines()[-1]
    return last_line.rpartition(f"{InputError.__name__}: ")[2]
