"""Crops and trimaps as Deep Image Matting's own recipe has them: configs/DIM_stage1.py on a small set."""

from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT

from data.training.dim_recipe import draw_sample
from data.transforms import AffineRange, choose_fractional_corner, draw_affine
from engine.config import build, load_config
from runtime.errors import InputError


def dataset_of(root, *settings: str):
    config = load_config(str(ROOT / "configs" / "DIM_stage1.py"), [f"dataloader.train.dataset.root={root}", *settings])
    return build(config.dataloader.train.dataset)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A foreground of 720 x 800 pixels with a soft disc, and a background."""
    root = tmp_path_factory.mktemp("dim")
    rng = np.random.default_rng(0)
    for name in ("fg", "bg"):
        (root / name).mkdir()
        coarse = Image.fromarray(rng.integers(0, 256, (9, 10, 3), np.uint8))
        coarse.resize((800, 720), Image.Resampling.BICUBIC).save(root / name / "a.png")
    y, x = np.mgrid[:720, :800]
    soft = np.clip((200 - np.hypot(x - 420, y - 350)) / 60 + 0.5, 0, 1)
    (root / "alpha").mkdir()
    Image.fromarray((soft * 255).astype(np.uint8)).save(root / "alpha" / "a.png")
    return root


def test_crops_of_three_sizes_become_320_with_a_trimap_of_the_resized_alpha(root):
    dataset = dataset_of(root)
    sides = Counter()
    for index in range(12):
        sample, drawn = dataset[index], draw_sample(dataset.recipe, dataset.generator(0, index, 0))
        sides[dataset.recipe.side_of(drawn)] += 1
        assert {name: tuple(sample[name].shape) for name in ("image", "fg", "bg", "alpha", "trimap")} == {
            "image": (3, 320, 320), "fg": (3, 320, 320), "bg": (3, 320, 320), "alpha": (1, 320, 320),
            "trimap": (1, 320, 320),
        }  # fmt: skip
        alpha = sample["alpha"].numpy()[0]
        assert min(drawn.foreground_erosion, drawn.background_erosion) >= 1
        assert max(drawn.foreground_erosion, drawn.background_erosion) <= 29
        ellipses = [
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
            for side in (drawn.foreground_erosion, drawn.background_erosion)
        ]
        expected = np.full((320, 320), 0.5, np.float32)
        expected[cv2.erode(alpha, ellipses[0]) >= 1 - 1e-5] = 1
        expected[cv2.dilate(alpha, ellipses[1]) <= 1e-5] = 0
        assert np.array_equal(sample["trimap"][0], expected)
        assert (sample["trimap"] == 0.5).any()
        if dataset.recipe.side_of(drawn) == 320:
            composite = sample["alpha"] * sample["fg"] + (1 - sample["alpha"]) * sample["bg"]
            torch.testing.assert_close(sample["image"], composite, atol=1e-6, rtol=0)
    assert set(sides) == {320, 480, 640}


def test_sides_and_kernels_are_drawn_uniformly_and_mirroring_is_left_to_right(root):
    dataset = dataset_of(root)
    drawn = [draw_sample(dataset.recipe, dataset.generator(0, index, 0)) for index in range(3000)]
    sides = Counter(map(dataset.recipe.side_of, drawn))
    assert all(sides[side] == pytest.approx(1000, abs=100) for side in (320, 480, 640))
    kernels = Counter(draw.foreground_erosion for draw in drawn)
    assert set(kernels) == set(range(1, 30))
    assert max(kernels.values()) < 2 * min(kernels.values())
    assert np.mean([draw.affine.flip for draw in drawn], axis=0) == pytest.approx([0.5, 0], abs=0.03)


@pytest.mark.parametrize("at", [(0, 0), (3, 650), (99, 350), (699, 0), (699, 699)])
def test_a_crop_holds_the_only_pixel_that_is_soft(at):
    alpha = np.zeros((700, 700))
    alpha[:, 400:] = 1
    alpha[at] = 0.5
    for side in (320, 480, 640):
        top, left = choose_fractional_corner(alpha, side, 0.7)
        assert 0 <= top <= 700 - side
        assert 0 <= left <= 700 - side
        assert top <= at[0] < top + side
        assert left <= at[1] < left + side


def test_soft_pixels_whose_crop_fits_are_preferred_and_become_its_centre():
    alpha = np.zeros((700, 700))
    soft = [(5, 5), (300, 350), (350, 300), (690, 400)]
    for at in soft:
        alpha[at] = 0.5
    corners = {choose_fractional_corner(alpha, 320, draw) for draw in np.linspace(0, 0.999, 50)}
    assert corners == {(300 - 160, 350 - 160), (350 - 160, 300 - 160)}


@pytest.mark.parametrize("size", [(100, 120), (700, 640)], ids=["enlarged", "as it is"])
def test_a_foreground_that_the_frame_cuts_stays_opaque_to_its_border(tmp_path, size):
    for name, level in (("fg", 200), ("alpha", 255), ("bg", 30)):
        (tmp_path / name).mkdir()
        picture = Image.fromarray(np.full(size, level, np.uint8))
        (picture if name == "alpha" else picture.convert("RGB")).save(tmp_path / name / "a.png")
    dataset = dataset_of(tmp_path)
    for index in range(8):  # mirrored and not, of all crop sizes
        sample = dataset[index]
        assert sample["alpha"].min() == 1
        assert sample["trimap"].min() == 1
        assert sample["fg"].min() > 0.78  # 200 / 255


def test_without_a_soft_pixel_the_crop_is_the_top_left_one(root):
    assert choose_fractional_corner(np.ones((400, 500)), 320, 0.9) == (0, 0)


def test_two_probabilities_mirror_each_axis_by_its_own():
    generator = np.random.default_rng(0)
    flips = [draw_affine(generator, AffineRange(flip_prob=(0.9, 0.2))).flip for _ in range(2000)]
    assert np.mean(flips, axis=0) == pytest.approx([0.9, 0.2], abs=0.03)


@pytest.mark.parametrize("bad", [(0.5,), (0.5, 0.5, 0.5), (0.5, -0.1), (2, 0)])
def test_other_probabilities_of_mirroring_are_refused(bad):
    with pytest.raises(InputError, match="flip_prob: expected a probability, or two of them"):
        AffineRange(flip_prob=bad)


def test_a_centre_of_another_kind_is_refused(root):
    with pytest.raises(InputError, match="crop_centre: expected one of trimap, fractional, got 'middle'"):
        dataset_of(root, "dataloader.train.dataset.crop_centre=middle")
