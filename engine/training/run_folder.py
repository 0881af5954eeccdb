"""The run folder: claimed by one run at a time, with a log of the terminal's messages."""

import contextlib
import errno
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from engine.monitoring import close_quietly_at_exit
from engine.processes.watch import lost_the_others
from engine.training.checkpoints import LAST_CHECKPOINT, run_checkpoints
from engine.training.interruption import TrainingInterrupted
from runtime.errors import InputError
from runtime.files import replacing

SMALLEST_FREE_SPACE = 2**20  # bytes that a run needs for its logs
LOGGERS = ("detectron2", "fvcore", "dinomatte")


@contextlib.contextmanager
def claimed(output_dir: Path, resume: bool) -> Iterator[None]:
    """Claim the folder for this run inside this context. Failures and interruptions are recorded in its log.txt.

    All processes enter this context.

    Raises:
        InputError: the folder contains another run that is not resumed, another run is writing into it, it is not a
            folder, or it cannot take this run's files.
    """
    if not resume and ((output_dir / LAST_CHECKPOINT).exists() or run_checkpoints(output_dir)):
        raise InputError(
            f"train.output_dir={output_dir}: already contains a run; continue it with --resume, or name another folder"
        )
    _make(output_dir)
    with _locked(output_dir) if comm.is_main_process() else contextlib.nullcontext():
        if comm.is_main_process():
            _try_to_write(output_dir)
        comm.synchronize()  # the other processes must not start if it failed
        start_logging(output_dir)
        try:
            yield
        except (InputError, TrainingInterrupted) as end:
            _note(str(end))
            raise


def start_logging(output_dir: Path) -> None:
    """Write the program's messages to the terminal and into the folder's log.txt."""
    _make(output_dir)
    for name in LOGGERS:
        setup_logger(str(output_dir), distributed_rank=comm.get_rank(), name=name)
    close_quietly_at_exit(LOGGERS, output_dir)
    logging.getLogger("detectron2.engine.train_loop").addFilter(_needs_a_traceback)


def _make(output_dir: Path) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"train.output_dir={output_dir}: expected a folder, found a file; name another")
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"train.output_dir={output_dir}: cannot make the folder: {error.strerror}") from error


@contextlib.contextmanager
def _locked(output_dir: Path) -> Iterator[None]:
    """Hold a lock that the system releases when the process ends. If the file system has no locks, nothing is locked.

    It is a record lock, which worker processes do not inherit.
    """
    try:
        lock = open(output_dir / ".lock", "w")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise InputError(f"train.output_dir={output_dir}: cannot write into it: {error.strerror}") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InputError(
                    f"train.output_dir={output_dir}: another run is writing into it; wait for its end, or name another"
                ) from error
        yield


def _try_to_write(output_dir: Path) -> None:
    probe = output_dir / "probe"
    with replacing(probe) as temporary:
        temporary.write_bytes(bytes(SMALLEST_FREE_SPACE))
    probe.unlink()


def _note(text: str) -> None:
    """Write a line into log.txt only, since the script prints it on the terminal."""
    logger = logging.getLogger("dinomatte")
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, text, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "name", "").endswith("log.txt"):
            handler.handle(record)


def _needs_a_traceback(record: logging.LogRecord) -> bool:
    """False for Detectron2's report of errors with a complete message, which the script prints."""
    error = record.exc_info[1] if record.exc_info else None
    return not lost_the_others(error) and not isinstance(error, InputError | TrainingInterrupted)
