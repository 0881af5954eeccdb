"""Writers of logged values: the terminal, metrics.json, TensorBoard, Weights & Biases."""

import atexit
import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from detectron2.engine import hooks
from detectron2.utils.events import CommonMetricPrinter, EventWriter, TensorboardXWriter, get_event_storage
from omegaconf import DictConfig

from engine.monitoring import metrics_file
from engine.monitoring.metrics_file import MetricsFile
from engine.monitoring.weights_and_biases import WandbWriter

logger = logging.getLogger("dinomatte.monitoring")

FLUSH_SECONDS = 5  # after this time TensorBoard's events are in the file even if the run is killed


class RunWriters(hooks.PeriodicWriter):
    """Detectron2's PeriodicWriter, which also passes the first iteration to its writers, in reverse order.

    Register this hook in the main process only.
    """

    def before_train(self) -> None:
        start = self.trainer.start_iter
        # Iterations after the last entry are logged again.
        first_logged = max(start - 1, 0) // self._period * self._period
        for writer in reversed(self._writers):
            if hasattr(writer, "start"):
                writer.start(start, first_logged)


def build_writers(config: DictConfig) -> list[EventWriter]:
    """Build the writers that a config enables. A full or read-only disk does not stop the run.

    Raises:
        InputError: train.wandb is enabled and its package is missing.
    """
    output_dir = Path(config.train.output_dir)
    writers = [
        CommonMetricPrinter(config.train.max_iter),
        Tolerant(MetricsFile(output_dir / metrics_file.FILE_NAME), metrics_file.FILE_NAME),
    ]
    writers.append(Tolerant(TensorBoardWriter(output_dir), "TensorBoard's events"))
    wandb = config.train.get("wandb")
    if wandb is not None and wandb.enabled:
        writers.append(WandbWriter(config, wandb.project, wandb.name))  # starts before TensorBoard's, ends after it
    return writers


class Tolerant(EventWriter):
    """Wrapper of a writer that logs a warning for a disk error, and is silent until writing succeeds again.

    Args:
        writer: writer to wrap.
        title: name of its output, for the warning.
    """

    def __init__(self, writer: EventWriter, title: str) -> None:
        self.writer, self.title = writer, title
        self._failing = False

    def start(self, iteration: int, first_logged: int) -> None:
        if hasattr(self.writer, "start"):
            self._attempt(self.writer.start, iteration, first_logged)

    def write(self) -> None:
        self._attempt(self.writer.write)

    def close(self) -> None:
        self._attempt(self.writer.close)

    def _attempt(self, action, *arguments) -> None:
        try:
            action(*arguments)
        except OSError as error:
            if not self._failing:
                logger.warning("%s cannot be written (%s); the run continues", self.title, error.strerror or error)
            self._failing = True
        else:
            if self._failing:
                logger.info("%s can be written again", self.title)
            self._failing = False


class TensorBoardWriter(EventWriter):
    """TensorBoard's events of a run that may be resumed. Values that will be logged again are hidden from the curves.

    After a failure a new file of events is started; values that could not be written are lost.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = str(output_dir)
        self._writer: TensorboardXWriter | None = None
        self._usual_hook = threading.excepthook
        threading.excepthook = self._thread_failed

    def start(self, iteration: int, first_logged: int) -> None:
        self._begin_file(purge_step=first_logged)

    def write(self) -> None:
        try:
            if self._writer is None:
                self._begin_file()
            self._writer.write()
        except OSError:
            self._writer = None
            storage = get_event_storage()  # otherwise pictures would accumulate in memory
            storage.clear_images()
            storage.clear_histograms()
            raise

    def close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            threading.excepthook = self._usual_hook

    def _begin_file(self, **settings) -> None:
        self._writer = TensorboardXWriter(self.output_dir, flush_secs=FLUSH_SECONDS, **settings)

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """Hide the traceback, because TensorBoard's thread passes its error to the next call of the writer."""
        is_theirs = type(failure.thread).__module__.startswith("tensorboard.")
        if not (is_theirs and isinstance(failure.exc_value, OSError)):
            self._usual_hook(failure)


def close_quietly_at_exit(loggers: Sequence[str], output_dir: str | Path) -> None:
    """At exit, close the log files of these loggers in `output_dir` without a traceback if the disk is full."""
    handlers = [handler for name in loggers for handler in logging.getLogger(name).handlers]
    streams = {handler.stream for handler in handlers if isinstance(handler, logging.StreamHandler)}
    for stream in streams:
        if Path(str(getattr(stream, "name", ""))).parent == Path(output_dir):
            atexit.register(_close_quietly, stream)


def _close_quietly(stream: TextIO) -> None:
    with contextlib.suppress(OSError):
        stream.close()
