"""Iterations after which logged values are written."""

from detectron2.engine import TrainerBase


def is_due(trainer: TrainerBase, period: int) -> bool:
    """Return whether detectron2's PeriodicWriter writes after this iteration, a multiple of `period` or the last."""
    return (trainer.iter + 1) % period == 0 or trainer.iter == trainer.max_iter - 1


def last_written(iteration: int, period: int) -> int:
    """Last iteration before `iteration` after which periodic values were written; -1 if there is none."""
    return iteration // period * period - 1
