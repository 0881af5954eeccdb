"""Evaluators: classes that process the predictions of a set one by one and score them, like DatasetEvaluator.

A config sets one as `dataloader.evaluator`. Saving, curves and logs ask it for names, units and directions of metrics.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.utils import comm

from metrics import METRICS, PAPER_METRICS, mean_scores, score_image
from metrics.description import Description
from metrics.segmentation import (
    SEGMENTATION_LOSS,
    SEGMENTATION_METRICS,
    confusion_matrix,
    cross_entropy_sum,
    segmentation_scores,
)
from modeling.meta_arch import System
from runtime.errors import InputError, require_choice

Sample = Mapping[str, Any]


class Evaluator:
    """Scorer of a set of predictions. Each process of a job has its own part; `evaluate` combines the parts.

    Attributes:
        metrics: result of `evaluate` by name; tables and logs show the first metric first.
        reads: targets and predictions that it compares, with "trimap" if it scores the unknown region.
        uses_probabilities: whether it needs "probabilities" of a predicted mask, see `Predictor`.
    """

    metrics: Mapping[str, Description]
    reads: tuple[str, ...]
    uses_probabilities: bool = False

    def check(self, model: System) -> None:
        """Refuse a system whose predictions cannot be scored.

        Raises:
            InputError: the predictions cannot be scored; the message gives the reason.
        """

    def reset(self) -> None:
        """Discard all earlier predictions."""
        raise NotImplementedError

    def process(self, inputs: Sequence[Sample], outputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Process predictions.

        Args:
            inputs: samples of the set, 8-bit arrays with the truth.
            outputs: predictions of each sample, by name.
        """
        raise NotImplementedError

    def evaluate(self) -> dict[str, float]:
        """Scores over the predictions of all processes, the same in each process."""
        raise NotImplementedError


class MattingEvaluator(Evaluator):
    """The metrics of matting papers, averaged over images.

    Args:
        region: "unknown" for the unknown region of each sample's trimap, or "whole" for every pixel.
        names: names of the metrics in `metrics.METRICS`.

    Example:
        In a config: `dataloader.evaluator = L(MattingEvaluator)(region="whole", names=["mse", "psnr"])`.
    """

    def __init__(self, region: str = "unknown", names: Sequence[str] = PAPER_METRICS) -> None:
        require_choice("dataloader.evaluator.region", region, ("unknown", "whole"))
        for name in names:
            require_choice("dataloader.evaluator.names", name, tuple(METRICS))
        self.region = region
        self.reads = ("alpha", "trimap") if region == "unknown" else ("alpha",)
        self.metrics = {name: METRICS[name].description for name in names}
        self.reset()

    def reset(self) -> None:
        self._scores: list[dict[str, float]] = []

    def process(self, inputs: Sequence[Sample], outputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            trimap = sample["trimap"] if self.region == "unknown" else None
            self._scores.append(score_image(output["alpha"], sample["alpha"], trimap, tuple(self.metrics)))

    def evaluate(self) -> dict[str, float]:
        scores = [score for of_process in comm.all_gather(self._scores) for score in of_process]
        return mean_scores(scores, metrics=tuple(self.metrics))


class SegmentationEvaluator(Evaluator):
    """Mean intersection over union and pixel accuracy from one confusion matrix over the set.

    Args:
        classes: the classes, or their number; pixels of class 255 are not scored.
        loss: whether the mean cross entropy of all scored pixels is also computed.
    """

    def __init__(self, classes: int | Sequence[Any] = 2, loss: bool = False) -> None:
        self.num_classes = classes if isinstance(classes, int) else len(classes)
        if self.num_classes < 2:
            raise InputError(f"dataloader.evaluator.classes: expected 2 or more, got {self.num_classes}")
        self.reads = ("mask",)
        self.uses_probabilities = loss
        self.metrics = SEGMENTATION_METRICS | (SEGMENTATION_LOSS if loss else {})
        self.reset()

    def check(self, model: System) -> None:
        if model.num_classes != self.num_classes:
            raise InputError(
                f"dataloader.evaluator.classes: expected {model.num_classes}, as {type(model).__name__} predicts, "
                f"got {self.num_classes}"
            )

    def reset(self) -> None:
        self._matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        self._nats, self._pixels = 0.0, 0

    def process(self, inputs: Sequence[Sample], outputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            self._matrix += confusion_matrix(output["mask"], sample["mask"], self.num_classes)
            if self.uses_probabilities:
                nats, pixels = cross_entropy_sum(output["probabilities"], sample["mask"])
                self._nats, self._pixels = self._nats + nats, self._pixels + pixels

    def evaluate(self) -> dict[str, float]:
        scores = segmentation_scores(sum(comm.all_gather(self._matrix)))
        if self.uses_probabilities:
            nats, pixels = np.sum(comm.all_gather((self._nats, self._pixels)), axis=0)
            scores["loss"] = float(nats / pixels) if pixels else float("nan")
        return scores


def format_scores(scores: Mapping[str, float], metrics: Mapping[str, Description]) -> str:
    """One line with all metrics, in the units of published tables (MSE in thousandths)."""
    return "  ".join(f"{metrics[name].title} {scores[name] * metrics[name].scale:.3f}" for name in metrics)
