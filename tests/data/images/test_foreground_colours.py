"""Foreground colours against the true ones of procedural composites, and PyMatting's on the same images."""

import numpy as np
import pytest
from scipy import ndimage

from data.images import foreground_colours
from data.images.foreground_colours import composite_over, estimate_foreground
from data.synthetic import SyntheticMatting
from runtime.errors import InputError


def layers(index: int) -> tuple[np.ndarray, ...]:
    sample = SyntheticMatting(size=128, samples_per_epoch=8, seed=21)[index]
    arrays = [(sample[name].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8) for name in ("image", "fg")]
    return *arrays, (sample["alpha"][0].numpy() * 255).round().astype(np.uint8)


def test_most_of_the_old_background_is_gone_and_no_more_is_left_than_pymatting_leaves():
    pymatting = pytest.importorskip("pymatting")
    errors = {"image": [], "ours": [], "pymatting": []}
    for index in range(8):
        image, truth, alpha = layers(index)
        soft = (alpha > 5) & (alpha < 250)
        estimates = {
            "image": image,
            "ours": estimate_foreground(image, alpha),
            "pymatting": pymatting.estimate_foreground_ml(image / 255, alpha / 255) * 255,
        }
        for name, colours in estimates.items():
            differences = np.abs(colours[soft] - truth[soft].astype(float)) * (alpha[soft, None] / 255)
            errors[name].append(differences.mean())
    means = {name: np.mean(values) for name, values in errors.items()}
    assert means["ours"] < 0.4 * means["image"]
    assert means["ours"] < means["pymatting"]


def test_known_colours_are_the_pictures_own():
    image, _, alpha = layers(0)
    np.testing.assert_array_equal(estimate_foreground(image, alpha)[alpha == 255], image[alpha == 255])
    np.testing.assert_array_equal(estimate_foreground(image, np.full_like(alpha, 255)), image)


def test_a_soft_edge_between_flat_colours_is_recovered():
    edge = np.concatenate([np.zeros(40), np.linspace(0, 255, 16).round(), np.full(40, 255)])
    alpha = np.tile(edge.astype(np.uint8), (32, 1))
    colours, background = np.uint8([200, 40, 90]), np.uint8([10, 220, 60])
    image = np.rint(alpha[..., None] / 255 * colours + (1 - alpha[..., None] / 255) * background).astype(np.uint8)
    estimated = estimate_foreground(image, alpha)
    assert np.abs(estimated[alpha > 25].astype(int) - colours).max() <= 12  # the picture itself is 140 off there
    over = composite_over(image, alpha, np.uint8([0, 0, 255]))
    expected = alpha[..., None] / 255 * colours + (1 - alpha[..., None] / 255) * np.array([0, 0, 255])
    assert np.abs(over - expected).mean() < 2


def test_sizes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"image \(4, 4\) and alpha \(4, 5\) differ in size"):
        estimate_foreground(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))


def test_tiles_have_no_seams(monkeypatch):
    sample = SyntheticMatting(size=(150, 203), samples_per_epoch=1, seed=3)[0]
    image = (sample["image"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    alpha = (sample["alpha"][0].numpy() * 255).round().astype(np.uint8)
    alpha[:40] = 120  # soft at the borders of tiles and of the picture
    whole = estimate_foreground(image, alpha)
    monkeypatch.setattr(foreground_colours, "TILE", 32)
    tiled = estimate_foreground(image, alpha)
    soft = (alpha > 0) & (alpha < 255)
    np.testing.assert_array_equal(tiled[soft], whole[soft])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 3), (3, 301)])
def test_floats_agree_with_levels_at_any_size(shape):
    rng = np.random.default_rng(0)
    image, alpha = rng.integers(0, 256, (*shape, 3), np.uint8), rng.integers(0, 256, shape, np.uint8)
    levels = estimate_foreground(image, alpha)
    floats = estimate_foreground(image, alpha.astype(np.float32) / np.float32(255))
    assert (levels.dtype, floats.dtype, levels.shape) == (np.uint8, np.float32, (*shape, 3))
    assert np.abs(floats * 255 - levels).max() <= 0.6  # the wide windows round the colours, not alpha


def test_highlights_of_a_soft_edge_are_recovered():
    edge = np.concatenate([np.zeros(40), np.linspace(0, 1, 16), np.ones(40)])
    alpha = np.tile(edge.astype(np.float32), (32, 1))
    colours, background = np.float32([3.2, 0.4, 1.5]), np.float32([0.1, 2.5, 0.0])  # white is 1
    image = alpha[..., None] * colours + (1 - alpha[..., None]) * background
    estimated = estimate_foreground(image, alpha)
    assert np.abs(estimated[alpha > 0.1] - colours).max() <= 12 / 255 * 3.4  # as for levels; the range is 3.4
    assert np.abs(estimated[alpha > 0.1] - np.clip(colours, 0, 1)).max() > 2  # not limited to 1
    np.testing.assert_array_equal(estimated[alpha == 1], image[alpha == 1])


def test_deep_images_have_smoother_estimates_than_levels():
    """A ramp of colours under alpha of one half: levels are steps of 1 / 255, and a 16-bit image has none."""
    ramp = np.tile(np.linspace(0.3, 0.34, 256, dtype=np.float32)[:, None], (64, 1, 3))
    alpha = np.full((64, 256), 0.5, np.float32)
    alpha[:8], alpha[-8:] = 1, 0
    image = alpha[..., None] * ramp
    bends = [
        np.abs(np.diff(estimate_foreground(picture, alpha)[16:32], n=2, axis=1)).mean()
        for picture in (image, np.rint(image * 255).astype(np.uint8))
    ]
    assert bends[0] < 0.2 * bends[1]


def fused(
    image: np.ndarray, foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray, radius: int, limits: tuple
):
    """A pass of the method as the paper writes it, with alpha squared, in float64; arrays are (H, W, 3), alpha too."""

    def mean(values):
        return ndimage.uniform_filter(values, (2 * radius + 1, 2 * radius + 1, 0), mode="mirror")

    foreground = mean(foreground * alpha**2) / (mean(alpha**2) + 1e-5)
    background = mean(background * (1 - alpha) ** 2) / (mean((1 - alpha) ** 2) + 1e-5)
    rest = image - alpha * foreground - (1 - alpha) * background
    return (foreground + alpha * rest).clip(*limits), (background + (1 - alpha) * rest).clip(*limits)


def estimate_in_float64(image: np.ndarray, alpha: np.ndarray, limits: tuple) -> np.ndarray:
    """Foreground of a whole picture (H, W, 3) by scipy's filters, without tiles."""
    height, width = alpha.shape
    border = ((0, -height % 4), (0, -width % 4), (0, 0))
    image, alpha = (np.pad(array, border, mode="edge") for array in (image, np.dstack([alpha] * 3)))
    blocks = (len(image) // 4, 4, -1, 4, 3)
    small, small_alpha = (array.astype(np.float64).reshape(blocks).mean(axis=(1, 3)) for array in (image, alpha))
    colours = small, small
    for radius in (16, 8, 4):
        colours = fused(small, *colours, small_alpha, radius, limits)
    colours = [ndimage.zoom(each, (4, 4, 1), order=1, mode="nearest", grid_mode=True) for each in colours]
    for radius in (8, 4, 2, 1):
        colours = fused(image, *colours, alpha, radius, limits)
    return colours[0][:height, :width]


@pytest.mark.parametrize("shape", [(97, 120), (96, 121), (20, 276)])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.5, 0.75), (0.25, 1.5)])
def test_estimates_are_those_of_the_method_in_float64(shape, low, high):
    rng = np.random.default_rng(0)
    levels = rng.random((*shape, 3), np.float32)
    blocks = rng.integers(0, 2, (-(-shape[0] // 12), 6, 3)).astype(np.float32)
    levels[:, :60] = np.kron(blocks, np.ones((12, 10, 1), np.float32))[: shape[0]]  # 0 and 1: colours are clipped
    alpha = rng.random(shape, np.float32)
    alpha[8:] *= rng.random((shape[0] - 8, shape[1])) < 0.01  # few soft pixels: the least weight counts
    alpha[:, :30] = np.linspace(0, 1, 30, dtype=np.float32)
    alpha[:4, 10:40] = 1
    image = levels * np.float32(high - low) + np.float32(low)
    limits = (0, max(1, image.max()))
    expected = estimate_in_float64(image.astype(np.float64), alpha, limits)
    expected[alpha == 1] = image[alpha == 1]
    estimated = estimate_foreground(image, alpha)
    np.testing.assert_allclose(estimated, expected, atol=2e-5)
    np.testing.assert_array_equal(estimated[alpha == 1], image[alpha == 1])


@pytest.mark.parametrize("extreme", [-12.92, 107])
def test_an_extreme_pixel_far_from_the_edge_changes_nothing_there(extreme):
    image, _, alpha = layers(1)
    image = np.pad(image, ((0, 0), (0, 400), (0, 0)), mode="reflect") / np.float32(255)
    alpha = np.pad(alpha, ((0, 0), (0, 400))) / np.float32(255)
    plain = estimate_foreground(image, alpha)
    image[10, -10] = extreme
    changed = estimate_foreground(image, alpha)
    np.testing.assert_allclose(changed[:, :300], plain[:, :300], atol=1e-5)
    assert changed[alpha == 1].tolist() == plain[alpha == 1].tolist()


def test_a_picture_without_pixels_has_no_colours():
    assert estimate_foreground(np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)).shape == (0, 4, 3)


def test_a_given_foreground_is_composited():
    image, alpha = np.full((1, 2, 3), 50, np.uint8), np.uint8([[102, 255]])  # 0.4
    over = composite_over(image, alpha, np.array([10, 20, 30]), np.full((1, 2, 3), 200, np.uint8))
    assert over.tolist() == [[[86, 92, 98], [200, 200, 200]]]  # 0.4 * 200 + 0.6 * 10
    over = composite_over(image, alpha, np.array([51, 102, 255]), np.full((1, 2, 3), 2, np.float32))
    np.testing.assert_allclose(over, [[[0.92, 1.04, 1.4], [2, 2, 2]]], rtol=1e-6)  # 0.4 * 2 + 0.6 * 0.2
