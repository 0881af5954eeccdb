"""Saving of checkpoints: periodically, the best, and the last when a signal asks to stop."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.engine import HookBase
from detectron2.utils import comm

from engine.monitoring.metrics_file import VALIDATION
from engine.training.checkpoints import RunCheckpointer, numbered_checkpoints
from engine.training.interruption import TrainingInterrupted
from metrics.description import Description
from modeling.weights.checkpoint_file import read_extra
from runtime.errors import InputError

logger = logging.getLogger("dinomatte.saving")

BEST, FINAL = "model_best", "model_final"


class SaveCheckpoints(HookBase):
    """Save every `period` iterations, at the end (model_final.pth), and when a signal asks to stop.

    Register this hook in all processes; the main process writes. It must be registered before evaluation, which may
    fail, and after hooks that put numbers of the iteration into the event storage.

    Args:
        period: iterations between checkpoints.
        max_to_keep: number of periodic checkpoints to keep, the newest; None for all. The final one, the best, and the
            one from which the run would continue are never removed.

    Raises:
        InputError: `period` or `max_to_keep` is below 1.
    """

    def __init__(self, checkpointer: RunCheckpointer, period: int, max_to_keep: int | None = None) -> None:
        for name, value in (("period", period), ("max_to_keep", max_to_keep)):
            if value is not None and value < 1:
                raise InputError(f"train.checkpointer.{name}: expected at least 1, got {value}")
        self.checkpointer, self.period, self.max_to_keep = checkpointer, period, max_to_keep
        self._stopped: TrainingInterrupted | None = None

    def after_step(self) -> None:
        """Save a checkpoint if it is due.

        Raises:
            TrainingInterrupted: after saving, in all processes, if a signal arrived before the last iteration.
            InputError: the checkpoint cannot be written; earlier ones are unchanged.
        """
        iteration = self.trainer.iter
        is_last = iteration + 1 >= self.trainer.max_iter
        is_due = (iteration + 1) % self.period == 0
        if is_due:
            self._save_numbered(iteration)
        if is_last:
            self.checkpointer.save(FINAL, iteration=iteration)
        elif self.trainer.stop_signal:
            self.stop(self.trainer.stop_signal, saved=is_due)

    def stop(self, number: int, saved: bool = False) -> None:
        """Save and stop after a signal, in all processes. During the last evaluation, the run is completed first.

        Args:
            number: number of the signal.
            saved: whether the iteration is saved already.

        Raises:
            TrainingInterrupted: immediately, or at the end by `raise_if_stopped`.
        """
        if self.trainer.iter >= self.trainer.max_iter:  # lets the hooks run for the last time
            self._stopped = TrainingInterrupted(number, self.trainer.max_iter - 1, self.checkpointer.path_of(FINAL))
            return
        iteration = self.trainer.iter
        path = self.checkpointer.path_of(_name(iteration)) if saved else self._save_numbered(iteration)
        comm.synchronize()  # when one process ends, the others may be ended too, so all wait until this is written
        raise TrainingInterrupted(number, iteration, path)

    def save_finished(self) -> Path | None:
        """Save the last complete iteration when the next could not begin; None if there is nothing new.

        This is for a job of one process, because other processes would be in the middle of that iteration.
        """
        done = self.trainer.iter - 1
        if comm.get_world_size() > 1 or done < self.trainer.start_iter:
            return None
        if (done + 1) % self.period:
            self.trainer.iter = done
            self._save_numbered(done)
            self.trainer.iter = done + 1
        return self.checkpointer.path_of(_name(done))

    def raise_if_stopped(self) -> None:
        """Raise TrainingInterrupted if training was stopped; to be called at its end."""
        if self._stopped is not None:
            raise self._stopped

    def _save_numbered(self, iteration: int) -> Path:
        path = self.checkpointer.save(_name(iteration), iteration=iteration)
        self._remove_old(iteration, path)
        return path

    def _remove_old(self, iteration: int, last: Path) -> None:
        """Remove old checkpoints. Later ones, of an abandoned attempt, are kept until this run has passed them."""
        if self.max_to_keep is None or not comm.is_main_process():
            return
        past = [path for number, path in numbered_checkpoints(self.checkpointer.save_dir) if number <= iteration]
        for path in past[self.max_to_keep :]:
            if path != last:
                path.unlink(missing_ok=True)


def _name(iteration: int) -> str:
    return f"model_{iteration:07d}"


class SaveBest(HookBase):
    """Keep the checkpoint with the best validation score over all starts of a run.

    The score is stored in the file itself, so that neither exists without the other. Register this hook after
    evaluation.

    Args:
        metric: one of the evaluator's metrics.
        metrics: all metrics of the evaluator.
        name: name of the file without its suffix.

    Raises:
        InputError: no such metric.
    """

    def __init__(
        self, checkpointer: RunCheckpointer, metric: str, metrics: Mapping[str, Description], name: str = BEST
    ) -> None:
        if metric not in metrics:
            raise InputError(
                f"train.checkpointer.best_metric: expected one of {', '.join(metrics)}, or null, got {metric!r}"
            )
        self.checkpointer, self.metric, self.name = checkpointer, metric, name
        self._sign = -1 if metrics[metric].higher_is_better else 1
        self._best: float | None = None

    def after_step(self) -> None:
        self._consider()

    def after_train(self) -> None:
        self._consider()  # the last evaluation follows the last iteration

    def _consider(self) -> None:
        storage = self.trainer.storage
        score, evaluated_at = storage.latest().get(f"{VALIDATION}{self.metric}", (math.nan, None))
        if evaluated_at != storage.iter or not comm.is_main_process():
            return
        if self._best is None:
            self._best = self._saved_score()
        if self._sign * score < self._sign * self._best:
            iteration = min(self.trainer.iter, self.trainer.max_iter - 1)
            best = {"metric": self.metric, "score": score}
            self.checkpointer.save(self.name, mark_last=False, iteration=iteration, best=best)
            self._best = score

    def _saved_score(self) -> float:
        """Score of the existing file. Without a file, or with another metric, it is the worst possible."""
        best = read_extra(self.checkpointer.path_of(self.name), "best")
        if isinstance(best, dict) and best.get("metric") == self.metric and isinstance(best.get("score"), float):
            return best["score"]
        return self._sign * math.inf


def best_hooks(
    checkpointer: RunCheckpointer, best_metric: str | Sequence[str] | None, metrics: Mapping[str, Description]
) -> list[SaveBest]:
    """Hooks that keep the best checkpoints: model_best.pth by one metric, model_best_METRIC.pth by each of several."""
    if best_metric is None or isinstance(best_metric, str):
        return [] if best_metric is None else [SaveBest(checkpointer, best_metric, metrics)]
    return [SaveBest(checkpointer, metric, metrics, f"{BEST}_{metric}") for metric in best_metric]
