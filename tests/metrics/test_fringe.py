"""The fringe of a cut-out, against numbers worked by hand and against composites written out."""

import math

import numpy as np
import pytest

from metrics import fringe


def test_with_the_true_alpha_it_is_the_alpha_weighted_difference_of_colours():
    alpha = np.uint8([[0, 51, 102, 255]])  # 0, 1/5, 2/5, 1
    truth = np.uint8([[[9, 9, 9], [100, 100, 100], [50, 60, 70], [200, 0, 0]]])
    found = np.uint8([[[255, 0, 9], [140, 95, 100], [60, 60, 60], [190, 0, 30]]])
    # per pixel and channel: 0 0 0 | 40/5 5/5 0 | 10*2/5 0 10*2/5 | 10 0 30, which sum to 8 + 1 + 4 + 4 + 10 + 30 = 57
    assert fringe(found, truth, alpha) == pytest.approx(57 / 12)
    trimap = np.uint8([[0, 128, 128, 255]])
    assert fringe(found, truth, alpha, trimap) == pytest.approx(17 / 6)


def test_with_an_estimated_alpha_it_is_the_mean_over_black_and_white():
    colours = np.full((1, 1, 3), 100, np.uint8)
    alpha, opaque = np.uint8([[51]]), np.uint8([[255]])
    # over black 100 against 20, over white 100 against 20 + 0.8 * 255 = 224
    assert fringe(colours, colours, alpha, pred_alpha=opaque) == pytest.approx((80 + 124) / 2)


def test_it_is_the_difference_of_composites():
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 256, (2, 7, 5, 3), np.uint8)
    pred_alpha, alpha = rng.integers(0, 256, (2, 7, 5), np.uint8)
    trimap = rng.choice(np.uint8([0, 128, 255]), (7, 5))

    def composite(colours, matte, level):
        weight = matte[..., None] / 255
        return weight * colours + (1 - weight) * level

    errors = [composite(found, pred_alpha, n) - composite(truth, alpha, n) for n in (0, 255)]
    expected = np.mean([np.abs(error)[trimap == 128].mean() for error in errors])
    assert fringe(found, truth, alpha, trimap, pred_alpha) == pytest.approx(expected)
    # with the true alpha, over any background
    gray = np.abs(composite(found, alpha, 77) - composite(truth, alpha, 77))[trimap == 128].mean()
    assert fringe(found, truth, alpha, trimap) == pytest.approx(gray)


def test_without_scored_pixels_it_is_undefined_and_other_shapes_are_refused():
    colours, alpha = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    assert math.isnan(fringe(colours, colours, alpha, trimap=alpha))
    with pytest.raises(ValueError, match=r"pred_foreground: expected shape \(2, 2, 3\), got \(2, 2\)"):
        fringe(alpha, colours, alpha)
    with pytest.raises(ValueError, match=r"^foreground: expected shape"):
        fringe(colours, alpha, alpha)
    with pytest.raises(ValueError, match=r"^pred_alpha: expected shape"):
        fringe(colours, colours, alpha, pred_alpha=alpha[:1])
    with pytest.raises(ValueError, match="trimap: expected shape"):
        fringe(colours, colours, alpha, trimap=alpha[:1])
