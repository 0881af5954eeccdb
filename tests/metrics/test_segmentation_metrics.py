"""Segmentation metrics on masks of a few pixels, worked out by hand."""

import numpy as np
import pytest

from engine.evaluation.evaluators import SegmentationEvaluator, format_scores
from metrics.segmentation import confusion_matrix, cross_entropy_sum, segmentation_scores

MASK = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def test_pixels_are_counted_by_true_and_predicted_class():
    pred_mask = np.array([[0, 2, 2], [9, 1, 1]], np.uint8)  # 9 is no class, at a pixel that is not counted
    matrix = confusion_matrix(pred_mask, MASK, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert segmentation_scores(matrix) == pytest.approx({"miou": (1 / 2 + 1 / 3 + 1 / 2) / 3, "accuracy": 3 / 5})


def test_a_single_counted_pixel_has_scores():
    assert segmentation_scores(np.array([[1, 0], [0, 0]])) == {"miou": 1, "accuracy": 1}
    assert segmentation_scores(np.array([[0, 1], [0, 0]])) == {"miou": 0, "accuracy": 0}


def test_masks_without_a_counted_pixel_count_nothing_for_one_class_too():
    ignored = np.full((2, 3), 255, np.uint8)
    assert confusion_matrix(MASK, ignored, 1).tolist() == [[0]]


@pytest.mark.parametrize(
    ("pred_mask", "mask", "text"),
    [
        (MASK, MASK[:, :2], r"of one shape, got \(2, 3\) and \(2, 2\)"),
        (MASK[:1], MASK, r"of one shape, got \(1, 3\) and \(2, 3\)"),  # which would broadcast
        (MASK * 0, MASK, "indexes below 2, got 2"),
        (MASK, MASK * 0, "indexes below 2, got 255"),
        (np.minimum(MASK, 2), MASK * 0, "indexes below 2, got 2"),
    ],
)
def test_masks_that_cannot_be_compared_are_refused(pred_mask, mask, text):
    with pytest.raises(ValueError, match=text):
        confusion_matrix(pred_mask, mask, 2)


def test_the_cross_entropy_is_that_of_the_true_classes():
    probabilities = np.array([[[0.5, 0.25, 0.25], [0.2, 0.1, 0.7], [1, 0, 0]], [[1, 0, 0], [0, 1, 0], [0.4, 0.6, 0]]])
    nats, pixels = cross_entropy_sum(probabilities, MASK)
    assert pixels == 5
    # True classes have 0.5, 0.1, 0 (taken for 1e-7), 1 and 0.4
    assert nats == pytest.approx(np.log(2) + np.log(10) + 7 * np.log(10) + np.log(2.5))


def test_scores_are_printed_in_percent_and_the_loss_in_nats():
    evaluator = SegmentationEvaluator(2, loss=True)
    mask, pred_mask = np.array([[0, 1, 1, 1]], np.uint8), np.array([[0, 1, 0, 0]], np.uint8)
    probabilities = np.full((1, 4, 2), np.exp(-0.25))
    evaluator.process([{"mask": mask}], [{"mask": pred_mask, "probabilities": probabilities}])
    metrics, scores = evaluator.metrics, evaluator.evaluate()
    line = "mIoU (%) 33.333  accuracy (%) 50.000  cross entropy (nats) 0.250"
    assert format_scores(scores, metrics) == line
    assert {name: (metric.unit, metric.higher_is_better) for name, metric in metrics.items()} == {
        "miou": ("share", True), "accuracy": ("share", True), "loss": ("nats", False)
    }  # fmt: skip
