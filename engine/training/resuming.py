"""Resuming a run: restoring its log, and completing the checkpoint's iteration.

A checkpoint is saved before its iteration is evaluated and logged, since either may take long or fail. A resumed run
evaluates and logs this iteration first, so its log is the same as that of a run that was never stopped.
"""

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig

from engine.monitoring.metrics_file import FILE_NAME as METRICS_FILE
from engine.monitoring.metrics_file import VALIDATION
from engine.monitoring.periods import last_written
from engine.processes.agreement import from_main_process
from engine.training.checkpoints import RunCheckpointer
from engine.training.interruption import Interruption
from engine.training.saving import SaveCheckpoints
from runtime.files import replacing

logger = logging.getLogger("dinomatte.resuming")

Scalars = dict[str, list]  # name: value, its iteration, whether writers may smooth it


def resume_run(checkpointer: RunCheckpointer) -> int:
    """Load the run folder's last usable checkpoint, in all processes, and remove unfinished files of a killed run.

    Returns:
        The number of completed iterations, 0 without a checkpoint.

    Raises:
        InputError: see RunCheckpointer.resume.
    """
    if comm.is_main_process():
        _remove_unfinished(Path(checkpointer.save_dir))
    return checkpointer.resume()


def continue_log(trainer: TrainerBase, config: DictConfig, start: int) -> None:
    """Cut the run's log back to its checkpoint, and let `trainer` first complete the checkpoint's iteration.

    Without a checkpoint, the log of a run that was killed before its first checkpoint is emptied.

    All processes call this after all hooks are registered and the checkpoint is loaded.

    Args:
        start: number of completed iterations.
    """
    path, period = Path(config.train.output_dir) / METRICS_FILE, config.train.log_period
    scores = from_main_process(lambda: rewind_log(path, start, period))
    if not start:
        return
    registered = trainer._hooks
    scalars = next(hook for hook in registered if isinstance(hook, LoggedScalars)).loaded
    saving = next(index for index, hook in enumerate(registered) if isinstance(hook, SaveCheckpoints))
    trainer.register_hooks([FinishIteration(scalars, scores, period, registered[saving + 1 :])])


def finish_run(trainer: TrainerBase, checkpointer: RunCheckpointer, config: DictConfig, start: int) -> None:
    """Complete the steps after the last iteration: the final checkpoint, evaluation, the end of the log.

    All processes call this after all hooks are registered and the checkpoint is loaded.

    Args:
        start: number of completed iterations, at least all of the run's.
    """
    from_main_process(lambda: checkpointer.complete_final(start - 1))
    if from_main_process(lambda: _log_is_complete(config)):
        logger.info("nothing to do: iteration %d of %d is done", start, config.train.max_iter)
        return
    continue_log(trainer, config, start)
    trainer.iter = trainer.start_iter = trainer.max_iter = start
    with Interruption() as trainer.interruption, EventStorage(start) as trainer.storage:
        for hook in trainer._hooks:
            hook.before_train()
        trainer.after_train()


def _log_is_complete(config: DictConfig) -> bool:
    last = config.train.max_iter - (config.train.eval_period <= 0)  # the last evaluation is logged as max_iter
    path = Path(config.train.output_dir) / METRICS_FILE
    return any(last <= _iteration(line) < math.inf for line in _lines(path))


class LoggedScalars(HookBase):
    """Store the event storage's numbers in every checkpoint, because they may not be in the log yet.

    Register this hook before the checkpoint is loaded, because its state is part of the checkpoint.
    """

    def __init__(self) -> None:
        self.loaded: Scalars = {}

    def state_dict(self) -> dict[str, Any]:
        storage = self.trainer.storage
        smooth, latest = storage.smoothing_hints(), storage.latest()
        kept = (name for name in latest if name != "time")  # IterationTimer's, which lacks the first steps of a start
        return {"scalars": {name: [*latest[name], smooth[name]] for name in kept}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = state["scalars"]


class FinishIteration(HookBase):
    """Evaluate and log the iteration of the checkpoint when a run is resumed, unless that was done.

    Register this hook last, in all processes.

    Args:
        scalars: scalars from the checkpoint.
        validation: logged scores of that iteration; if empty, the iteration is evaluated.
        log_period: iterations between entries of the log.
        steps: hooks that act after the checkpoint is saved, in order: evaluation, the best checkpoint, writers.
    """

    def __init__(self, scalars: Scalars, validation: dict[str, float], log_period: int, steps: list[HookBase]) -> None:
        self.scalars, self.validation, self.log_period, self.steps = scalars, validation, log_period, steps

    def before_train(self) -> None:
        done = self.trainer.start_iter - 1
        if done < 0:
            return
        logged = last_written(done, self.log_period)
        with _at(self.trainer, done):
            self._restore({name: entry for name, entry in self.scalars.items() if entry[1] > logged})
            self._restore({name: [score, done, False] for name, score in self.validation.items()})
            for hook in self.steps:
                if not (self.validation and isinstance(hook, hooks.EvalHook)):
                    hook.after_step()

    def _restore(self, scalars: Scalars) -> None:
        storage = self.trainer.storage
        for name, (value, iteration, smooth) in scalars.items():
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=smooth)
        storage.iter = self.trainer.iter


def rewind_log(path: Path, start: int, log_period: int) -> dict[str, float]:
    """Cut metrics.json back to its state at the end of iteration `start - 1`, before evaluation and logging.

    Later entries of the run will be logged again. A truncated line is dropped too.

    Returns:
        The validation scores of iteration `start - 1`, if the log has them, which need not be computed again.
    """
    lines = _lines(path)
    limit = last_written(start - 1, log_period)
    kept = [line for line in lines if _iteration(line) <= limit]
    if kept != lines:
        with replacing(path, durable=True) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))
    entries = [json.loads(line) for line in lines if _iteration(line) == start - 1]
    return {
        name: math.nan if value is None else value
        for entry in entries
        for name, value in entry.items()
        if name.startswith(VALIDATION)
    }


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.is_file() else []


def _iteration(line: str) -> float:
    """Iteration of a line of metrics.json; infinity if there is none."""
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf
    return iteration if isinstance(iteration, int) else math.inf


def _remove_unfinished(folder: Path) -> None:
    """Remove temporary files of a process that was killed while writing, which may be as large as checkpoints."""
    for name in ("model_*", "last_checkpoint", METRICS_FILE):
        for path in folder.glob(f".{name}.*.part"):
            path.unlink(missing_ok=True)
            logger.info("removed %s, which a run that was killed left unfinished", path)


@contextlib.contextmanager
def _at(trainer: TrainerBase, iteration: int) -> Iterator[None]:
    """Set the trainer to the end of an earlier iteration inside this context."""
    now = trainer.iter
    trainer.iter = trainer.storage.iter = iteration
    try:
        yield
    finally:
        trainer.iter = trainer.storage.iter = now
