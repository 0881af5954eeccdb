"""The baseline of a constant alpha, worked by hand."""

import numpy as np
import pytest

from engine.evaluation.evaluators import MattingEvaluator
from tools.constant_baseline import constant_scores, mean_level


def test_the_mean_of_a_set_is_scored_everywhere():
    alphas = [np.array([[0, 255]], np.uint8), np.array([[255, 255], [255, 0]], np.uint8)]
    dataset = [{"alpha": alpha} for alpha in alphas]
    assert mean_level(dataset) == 170  # 4 of 6 pixels
    scores = constant_scores(dataset, MattingEvaluator("whole", ["mse", "sad"]), 170)
    share = 170 / 255
    mse = [(share**2 + (1 - share) ** 2) / 2, (3 * (1 - share) ** 2 + share**2) / 4]
    sad = [1, 3 * (1 - share) + share]
    assert scores == pytest.approx({"mse": np.mean(mse), "sad": np.mean(sad) / 1000})
