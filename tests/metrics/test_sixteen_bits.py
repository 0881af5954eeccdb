"""Scores of mattes of 16 bits: the same as of 8 bits where the values are the same, and finer elsewhere."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_metrics import GOLDEN_DIR, GOLDENS, golden_case

from metrics import METRICS, dtssd, messddt, score_image, score_sequence
from metrics.connectivity import connected_levels
from tests.references.literal_metrics import score_literally


def deep(matte):
    return matte * np.uint16(257)


def fine_mattes(shape, seed=0):
    """A prediction and a truth whose values are mostly between those of 8 bits, and a trimap."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.normal(size=shape), 3)
    noise /= noise.std()
    alpha = np.clip(32768 + 40000 * noise, 0, 65535)
    pred_alpha = np.clip(alpha + generator.normal(size=shape) * 3000, 0, 65535)
    trimap = np.where(np.abs(noise) < 0.6, 128, np.where(noise > 0, 255, 0)).astype(np.uint8)
    return pred_alpha.astype(np.uint16), alpha.astype(np.uint16), trimap


@pytest.mark.parametrize("name", sorted(json.loads((GOLDEN_DIR / "goldens.json").read_text())))
def test_scores_do_not_depend_on_the_depth_of_equal_values(name):
    pred_alpha, alpha, trimap = golden_case(name)
    for region in (trimap, None):
        expected = score_image(pred_alpha, alpha, region, list(METRICS))
        for pair in ((deep(pred_alpha), deep(alpha)), (deep(pred_alpha), alpha), (pred_alpha, deep(alpha))):
            scores = score_image(*pair, region, list(METRICS))
            assert scores == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize(("region", "name", "golden"), GOLDENS, ids=[f"{name}-{region}" for region, name, _ in GOLDENS])
def test_scores_of_16_bits_equal_the_matlab_code(region, name, golden):
    pred_alpha, alpha, trimap = golden_case(name)
    scores = score_image(deep(pred_alpha), alpha, trimap if region == "unknown" else None)
    expected = {key: math.nan if value is None else value for key, value in golden.items()}
    assert scores == pytest.approx(expected, rel=1e-5, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_scores_between_the_levels_of_8_bits_equal_a_literal_implementation(seed):
    pred_alpha, alpha, trimap = fine_mattes((24, 31), seed)
    expected = score_literally(pred_alpha / 257, alpha / 257, trimap)
    assert score_image(pred_alpha, alpha, trimap) == pytest.approx(expected, rel=1e-11)
    rounded = [np.rint(matte / 257).astype(np.uint8) for matte in (pred_alpha, alpha)]
    assert score_image(*rounded, trimap)["sad"] != pytest.approx(expected["sad"], rel=1e-5)


def test_psnr_and_ssim_of_16_bits_equal_scikit_image():
    pred_alpha, alpha, _ = fine_mattes((70, 91))
    scores = score_image(pred_alpha, alpha, metrics=["psnr", "ssim"])
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(alpha, pred_alpha, data_range=65535), rel=1e-12)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    assert scores["ssim"] == pytest.approx(
        structural_similarity(pred_alpha, alpha, **window, data_range=65535), rel=1e-11
    )


def test_scores_worked_by_hand():
    black = np.zeros((10, 10), np.uint16)
    # A fifth of 65535 is 13107: 100 pixels that differ by 0.2.
    scores = score_image(black + 13107, black, metrics=["sad", "mse", "mad", "psnr"])
    expected = {"sad": 0.02, "mse": 0.04, "mad": 0.2, "psnr": 10 * math.log10(25), "pixels": 100}
    assert scores == pytest.approx(expected, rel=1e-14)
    # One level of 16 bits, which 8 bits would round away.
    assert score_image(black + 1, black, metrics=["sad"])["sad"] == 100 / 65535 / 1000
    # 39321 is 0.6: l = 0.6 everywhere, phi(p) = 1 and phi(a) = 1 - 0.4. One level less: l = 0.5 and phi(a) = 1 - 0.5.
    white = black + 65535
    assert score_image(black + 39321, white, metrics=["conn"])["conn"] == pytest.approx(100 * 0.4 / 1000)
    assert score_image(black + 39320, white, metrics=["conn"])["conn"] == pytest.approx(100 * 0.5 / 1000)


def test_a_step_of_16_bits_is_an_edge_of_8():
    step = np.zeros((16, 16), np.uint8)
    step[:, 8:] = 255
    flat = np.zeros((16, 16), np.uint16)
    assert score_image(flat, step, metrics=["grad"])["grad"] == pytest.approx(
        score_image(flat.astype(np.uint8), step, metrics=["grad"])["grad"], rel=1e-13
    )


def test_components_of_16_bits_are_those_of_scipy():
    _, shared, _ = fine_mattes((60, 80), seed=4)
    levels, alive = np.zeros(shared.shape, int), np.ones(shared.shape, bool)
    for i in range(1, 11):
        labels, _ = ndimage.label(10 * shared.astype(int) >= 65535 * i)
        alive &= labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        levels += alive
    np.testing.assert_array_equal(connected_levels(shared), levels)


def test_sequences_of_16_bits_and_of_both_depths():
    generator = np.random.default_rng(7)
    frames = [(*generator.integers(0, 256, (2, 40, 50), np.uint8), None) for _ in range(3)]
    expected = score_sequence(frames)
    mixed = [(deep(frames[0][0]), deep(frames[0][1]), None), (deep(frames[1][0]), frames[1][1], None), frames[2]]
    assert score_sequence(mixed) == pytest.approx(expected, rel=1e-12)
    still = np.zeros((4, 4), np.uint16)
    assert dtssd([still, still + 13107], [still, still]) == pytest.approx(20, rel=1e-14)
    assert messddt([still, still + 13107], [still, still], np.zeros((4, 4, 2))) == pytest.approx(0.04, rel=1e-14)
    white = still + 65535
    assert dtssd([still, white], [white, still]) == 200


def test_sums_of_16_bits_over_large_images_do_not_overflow():
    black = np.zeros((5000, 4000), np.uint16)
    white = black + 65535
    scores = score_image(black, white, metrics=["sad", "mse"])
    assert scores == pytest.approx({"sad": 20000, "mse": 1, "pixels": 20_000_000}, rel=1e-15)
    assert dtssd((black, white), (white, black)) == pytest.approx(200, rel=1e-15)


def test_a_trimap_of_16_bits_raises_value_error():
    matte = np.zeros((4, 4), np.uint16)
    with pytest.raises(ValueError, match=r"trimap: expected an .* of uint8, .* got uint16"):
        score_image(matte, matte, matte)
