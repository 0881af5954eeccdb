"""Camera effects against hand-worked values."""

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from data.transforms.camera import Exposure, draw_exposure, expose, noisy, spilled, through_jpeg, tone_table


def gray(level: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), level / 255, np.float32)


def test_the_default_exposure_only_rounds():
    image = np.random.default_rng(0).random((20, 30, 3), np.float32)
    np.testing.assert_array_equal(expose(image, Exposure()), np.rint(image * 255).astype(np.uint8))


def test_gamma_of_each_channel():
    table = tone_table((1.0, 2.0, 0.5))[:, 0]
    assert table[128].tolist() == [128, round(128**2 / 255), round((128 * 255) ** 0.5)]
    assert table[[0, 255]].tolist() == [[0] * 3, [255] * 3]
    assert expose(gray(128), Exposure(gammas=(1.0, 2.0, 0.5)))[0, 0].tolist() == table[128].tolist()


def test_noise_has_the_deviation_it_names_with_and_without_grain():
    for grain in (0.0, 0.8):
        drawn = Exposure(noise=0.04, grain=grain, noise_seed=5)
        noise = noisy(np.full((200, 200, 3), 128, np.uint8), drawn).astype(float) - 128
        assert abs(noise.std() - 0.04 * 255) < 0.3
        assert abs(noise.mean()) < 0.3
    neighbours = np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]
    assert neighbours > 0.4


def test_sharpening_overshoots_at_an_edge_and_leaves_flat_parts():
    step = np.where(np.arange(64) < 32, 80, 160).astype(np.float32) / 255
    image = np.repeat(np.repeat(step[None, :, None], 64, axis=0), 3, axis=2)
    row = expose(image, Exposure(sharpening=1.0))[32, :, 0]
    assert row[0] == 80
    assert row[63] == 160
    assert row[31] < 70
    assert row[32] > 170


def test_jpeg_loses_more_the_lower_its_quality():
    picture = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (64, 64, 3)).astype(np.uint8), (0, 0), 2)
    fine, coarse = (peak_signal_noise_ratio(picture, through_jpeg(picture, quality)) for quality in (97, 40))
    assert fine > 38 > coarse


def test_spill_mixes_the_light_behind_in_proportion_to_transparency():
    foreground, background = gray(0), gray(200)
    alpha = np.full((64, 64), 0.25, np.float32)
    np.testing.assert_allclose(spilled(foreground, background, alpha, 0.2), 0.2 * 0.75 * 200 / 255, rtol=1e-4)
    np.testing.assert_array_equal(spilled(foreground, background, np.ones_like(alpha), 0.2), foreground)


def test_draws_stay_in_their_ranges():
    rng = np.random.default_rng(3)
    drawn = [draw_exposure(rng, 0.5, 0.5, 0.5, 0.04, 0.5, 0.5, 60) for _ in range(300)]
    noises = [one.noise for one in drawn if one.noise]
    assert 110 < len(noises) < 190
    assert 0.002 <= min(noises) <= max(noises) <= 0.04
    qualities = [one.jpeg_quality for one in drawn if one.jpeg_quality]
    assert 60 <= min(qualities) <= max(qualities) <= 99
