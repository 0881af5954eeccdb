"""The start of GrabCut in a box: the probability by hand, and the colours against scikit-image's."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from engine.inference.box_prior import BINS, SPREAD, opponent_colours, smoothed, subject_probability
from engine.inference.subjects import PointedSubjects, Subject, slack

DARK, LIGHT = 40, 220


def test_what_remains_of_the_boxs_colours_is_the_subjects():
    """Of the box, 5 of 26 rows are light, and around it all is dark. Of 0.4 for the subject, 0.1923 are light, so dark
    has (0.8077 - 0.6) / 0.4 = 0.5192 of the subject's histogram, and all of the background's."""
    colours = np.full((40, 40, 3), DARK, np.uint8)
    colours[7:12, 7:33] = LIGHT
    probability = subject_probability(colours, (7, 7, 33, 33))
    # Rows and columns 20 and 12 + 7 are 0.5769 of the half width from the centre: 2 * 0.5769 ** 2 = 0.6657, about 2/3,
    # where the place is neutral and the prior is 0.4.
    assert probability[27, 27] == pytest.approx(0.4 * 0.5192 / (0.4 * 0.5192 + 0.6 * 1), abs=0.001)
    # At the corner pixel both are 25 / 26, so the odds of 2/3 are multiplied by exp(2 * (2/3 - 1.849)) = 0.0940.
    assert probability[32, 32] == pytest.approx(1 / (1 + 1.5 / 0.0940 / 0.5192), abs=0.001)
    np.testing.assert_array_equal(probability[8, 8:30], 1)  # light is nowhere outside
    assert not probability[:7].any()
    assert not probability[:, 33:].any()


def test_a_box_without_surroundings_says_nothing_about_the_background():
    with pytest.raises(ValueError, match="expected pixels outside of it"):
        subject_probability(np.zeros((8, 8, 3), np.uint8), (0, 0, 8, 8))


def test_opponent_colours_are_those_of_scikit_image_with_both_axes_doubled():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    lightness, red_green, blue_yellow = np.moveaxis(rgb2lab(image), 2, 0)
    expected = np.stack([2.55 * lightness, 2 * red_green + 128, 2 * blue_yellow + 128], axis=2).clip(0, 255)
    np.testing.assert_allclose(opponent_colours(image), expected, atol=3)


def picture() -> np.ndarray:
    """A red square with some green, on green with noise."""
    image = np.full((200, 300, 3), (40, 140, 60), np.uint8)
    image[70:130, 60:120] = (200, 50, 40)
    image[95:105, 85:95] = (40, 140, 60)
    noise = np.random.default_rng(0).integers(-12, 13, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_what_is_far_from_the_box_does_not_matter():
    """The strip around the box of 70 x 70 pixels is 7 pixels wide."""
    image = picture()
    mask = PointedSubjects((55, 65, 125, 135))({"image": image}).mask()
    expected = np.zeros((200, 300), bool)
    expected[70:130, 60:120] = True
    expected[95:105, 85:95] = False
    assert (mask & expected).sum() / (mask | expected).sum() > 0.97
    far = np.ones((200, 300), bool)
    far[58:142, 48:132] = False
    image[far] = (200, 50, 40)
    np.testing.assert_array_equal(PointedSubjects((55, 65, 125, 135))({"image": image}).mask(), mask)


def test_a_click_on_the_subject_beside_the_box_is_the_subject():
    image = picture()
    image[90:110, 250:270] = (200, 50, 40)
    mask = PointedSubjects((55, 65, 125, 135), inside=[(260, 100)])({"image": image}).mask()
    assert mask[100, 260]
    assert mask[80, 70]
    assert not mask[100, 190]


def test_the_original_grabcut_serves_where_the_result_does_not_reach_the_sides():
    """A dark square with the colour of the strip around the box, and a spot: near the box, only the spot differs."""
    image = np.full((200, 300, 3), (60, 90, 200), np.uint8)
    image[50:150, 50:150] = (70, 70, 70)
    image[60:140, 60:140] = (80, 80, 80)
    image[95:105, 95:105] = (250, 200, 20)
    noise = np.random.default_rng(1).integers(-3, 4, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    mask = PointedSubjects((58, 58, 142, 142))({"image": image}).mask()
    assert slack(mask, (58, 58, 142, 142)) < 0.2


@pytest.mark.parametrize("box", [(0, 0, 1, 20000), (29, 0, 30, 20000), (3, 19990, 30, 20000)])
def test_boxes_at_the_border_of_a_long_picture(box):
    image = np.random.default_rng(0).integers(0, 256, (20000, 30, 3), np.uint8)
    left, top, right, bottom = box
    mask = PointedSubjects(box)({"image": image}).mask()
    strip = 27  # above half of the pixels of a cell, beside the box
    mask[max(0, top - strip) : bottom + strip, max(0, left - strip) : right + strip] = False
    assert not mask.any()


def test_histograms_are_smoothed_as_by_scipy():
    histogram = np.random.default_rng(0).random((BINS, BINS, BINS))
    np.testing.assert_allclose(smoothed(histogram), gaussian_filter(histogram, SPREAD, mode="nearest"), rtol=1e-12)


def test_a_click_on_a_region_that_was_not_kept_has_an_unknown_edge():
    """In 400 pixels GrabCut takes a disc of 0.015 * 400 = 6 pixels around a click for the subject."""
    clicked = np.full((300, 400), UNKNOWN, np.uint8)
    clicked[150, 200] = FOREGROUND
    trimap = Subject(np.zeros((300, 400), np.float32), 1.0, is_sharp=True, clicked=clicked).trimap(None)
    assert trimap[150, 200] == FOREGROUND
    assert (trimap[150, [194, 199, 201, 206]] == UNKNOWN).all()
    assert (trimap[150, [193, 207]] == BACKGROUND).all()
    assert np.count_nonzero(trimap) == np.count_nonzero(np.hypot(*np.mgrid[-6:7, -6:7]) <= 6)
