"""Scores of a segmentation system on its training samples, from one confusion matrix for each period."""

from typing import Any

import numpy as np
from detectron2.engine import HookBase
from detectron2.utils import comm

from metrics.segmentation import segmentation_scores

TRAINING = "training/"  # prefix of the names of these scores


class TrainingScores(HookBase):
    """Log mIoU, accuracy and mean loss over the last `period` iterations, see `System.training_confusion`.

    The scores are those of the augmented samples, with the weights at the time of each batch. Register this hook in all
    processes, before the hook that saves checkpoints. If a run is resumed in the middle of a period, the earlier counts
    of all processes except the main process are missing.

    Args:
        period: iterations between logs.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self._reset()

    def after_step(self) -> None:
        matrix = self.trainer.unwrapped.training_confusion()
        if matrix is None:
            return
        self._matrix = self._matrix + matrix.cpu().numpy()
        self._losses.append(self.trainer.storage.latest()["total_loss"][0])
        iteration = self.trainer.iter + 1
        if iteration % self.period == 0 or iteration == self.trainer.max_iter:
            scores = segmentation_scores(sum(comm.all_gather(self._matrix))) | {"loss": float(np.mean(self._losses))}
            for name, score in scores.items():
                self.trainer.storage.put_scalar(f"{TRAINING}{name}", score, smoothing_hint=False)
            self._reset()

    def state_dict(self) -> dict[str, Any]:
        return {"matrix": np.asarray(self._matrix).tolist(), "losses": list(self._losses)} if self._losses else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if comm.is_main_process():
            self._matrix, self._losses = np.array(state["matrix"], np.int64), list(state["losses"])

    def _reset(self) -> None:
        self._matrix: np.ndarray | int = 0
        self._losses: list[float] = []
