"""Iterations after which logged values are written."""

from detectron2.engine import TrainerBase


def is_due(trainer: TrainerBase, period: int) -> bool:
    """Return whether detectron2's PeriodicWriter writes after this iteration: every `period`-th one, and the last."""
    return (trainer.iter + 1) % period == 0 or trainer.iter == trainer.max_iter - 1


def last_written(iteration: int, period: int) -> int:
    """Last iteration before `iteration` after which values were written every `period`-th time; -1 for none."""
    return iteration // period * period - 1
