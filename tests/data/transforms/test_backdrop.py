"""Windows, hues, blur and resemblance of backgrounds, against hand-worked values and scipy."""

import numpy as np
import pytest
from scipy import ndimage

from data.transforms.backdrop import Backdrop, defocus, draw_backdrop, read_backdrop, resembling, shift_hue


def ramp(height: int, width: int) -> np.ndarray:
    """Red rises by 1 a column, green by 1 a row."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width), np.arange(height)[:, None]
    return picture


def test_the_largest_window_is_as_much_of_the_picture_as_fits():
    window = read_backdrop(ramp(128, 250), (64, 64), Backdrop(window=1.0, place=(0.0, 0.5)))
    # 128 x 128 pixels from column int(0.5 * 123) = 61 on, each output pixel the mean of 2 x 2
    np.testing.assert_allclose(window[0, :, 0], 61 + 0.5 + 2 * np.arange(64), atol=0.51)
    np.testing.assert_allclose(window[:, 0, 1], 0.5 + 2 * np.arange(64), atol=0.51)


def test_the_smallest_window_is_96_pixels_and_mirrors():
    window = read_backdrop(ramp(200, 250), (96, 96), Backdrop(window=0.0, place=(0.0, 0.0)))
    np.testing.assert_array_equal(window, ramp(96, 96))
    mirrored = read_backdrop(ramp(200, 250), (96, 96), Backdrop(window=0.0, place=(0.0, 0.0), flip=True))
    np.testing.assert_array_equal(mirrored, window[:, ::-1])


def test_a_picture_smaller_than_the_crop_is_enlarged():
    assert read_backdrop(ramp(10, 7), (64, 48), Backdrop(window=0.3)).shape == (64, 48, 3)


def test_a_third_of_a_turn_takes_red_to_green():
    pure = np.array([[[255, 0, 0], [90, 90, 90]]], np.uint8)
    turned = shift_hue(pure, 120)
    assert np.abs(turned[0, 0].astype(int) - (0, 255, 0)).max() <= 4  # hues have 256 steps
    np.testing.assert_array_equal(turned[0, 1], pure[0, 1])


@pytest.mark.parametrize("sigma", [1.0, 3.0, 9.0])
def test_defocus_is_a_gaussian(sigma):
    step = np.repeat(np.where(np.arange(240) < 120, 40, 200)[None], 240, axis=0).astype(np.uint8)
    got = defocus(np.dstack([step] * 3), sigma)[120, :, 1].astype(float)
    expected = ndimage.gaussian_filter1d(step[0].astype(float), sigma)
    assert np.abs(got - expected)[40:-40].max() < 0.03 * 160 + 1


def test_full_resemblance_gives_the_foregrounds_mean_and_contrast():
    rng = np.random.default_rng(0)
    background = (0.5 + 0.1 * rng.standard_normal((64, 64, 3))).clip(0, 1).astype(np.float32)
    foreground = np.zeros((64, 64, 3), np.float32)
    foreground[:32] = (0.4, 0.5, 0.6) + 0.13 * rng.standard_normal((32, 64, 3))
    alpha = np.zeros((64, 64), np.float32)
    alpha[:32] = 1
    moved = resembling(background, foreground, alpha, share=1.0)
    np.testing.assert_allclose(moved.mean((0, 1)), foreground[:32].mean((0, 1)), atol=0.005)
    np.testing.assert_allclose(moved.std((0, 1)), foreground[:32].std((0, 1)), rtol=0.1)
    half = resembling(background, foreground, alpha, share=0.5)
    np.testing.assert_allclose(half.mean((0, 1)), (moved.mean((0, 1)) + background.mean((0, 1))) / 2, atol=0.005)
    assert resembling(background, foreground, np.zeros_like(alpha), 1.0) is background


def test_probabilities_of_the_draws():
    rng = np.random.default_rng(1)
    drawn = [draw_backdrop(rng, 0.5, 8.0, 0.25, 0.0) for _ in range(400)]
    blurs = np.array([one.blur for one in drawn])
    assert 160 < (blurs > 0).sum() < 240
    assert blurs[blurs > 0].min() >= 0.5
    assert blurs.max() <= 8
    assert 65 < sum(one.hue != 0 for one in drawn) < 140
    assert not any(one.resemblance for one in drawn)
