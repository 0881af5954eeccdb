"""Realism in training samples: a random stream of its own, and everything else drawn as before."""

import numpy as np
import pytest
import torch

from data.images.files import write_png
from data.training.dim_dataset import CompositionDataset
from data.training.realism import Realism
from runtime.errors import InputError

SETTINGS = {"crop_size": 64, "trimap_size": None, "pairing": "random", "interpolation": "linear", "cache": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three soft discs and two backgrounds."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :150]
    for part in ("fg", "alpha", "bg"):
        (folder / part).mkdir()
    for number in range(3):
        alpha = np.clip(30 + 10 * number - np.hypot(y - 60, x - 75), 0, 8) / 8
        write_png(folder / "fg" / f"disc{number}.png", rng.integers(0, 256, (120, 150, 3), np.uint8))
        write_png(folder / "alpha" / f"disc{number}.png", np.rint(255 * alpha).astype(np.uint8))
    for number in range(2):
        write_png(folder / "bg" / f"{number}.png", rng.integers(0, 256, (200, 160, 3), np.uint8))
    return folder


def one_set(root, **settings):
    return CompositionDataset(root, samples_per_epoch=20, seed=4, **SETTINGS, **settings)


def test_the_recipes_own_draws_are_untouched(root):
    """With the same trimap for choosing the crop and no zoom, foreground and alpha are those without realism."""
    plain = one_set(root, trimap_erosion=(1, 1), resize640_prob=0.0)
    real = one_set(root, trimap_erosion=(1, 1), resize640_prob=0.0, realism=Realism(zoom=(1.0, 1.0)))
    for index in range(12):
        before, after = plain[2, index], real[2, index]
        assert torch.equal(before["alpha"], after["alpha"])
        assert before["name"] == after["name"]
    assert not torch.equal(before["image"], after["image"])


def test_without_effects_the_image_is_the_composite_rounded(root):
    quiet = {name: 0.0 for name in Realism.__dataclass_fields__ if name.endswith("_prob")}
    dataset = one_set(root, realism=Realism(**quiet), return_layers=True)
    for index in range(6):
        sample = dataset[index]
        composite = sample["alpha"] * sample["fg"] + (1 - sample["alpha"]) * sample["bg"]
        assert (sample["image"] - composite).abs().max() < 0.5 / 255 + 1e-5


def test_samples_are_valid_repeatable_and_different(root):
    dataset, again = (one_set(root, realism=Realism(), cache_backgrounds=True) for _ in range(2))
    for index in range(20):
        sample = dataset[1, index]
        image, alpha, trimap = sample["image"], sample["alpha"], sample["trimap"]
        assert image.shape == (3, 64, 64)
        assert image.is_contiguous()
        assert 0 <= image.min() <= image.max() <= 1
        assert torch.isin(trimap, torch.tensor([0.0, 0.5, 1.0])).all()
        assert (alpha[trimap == 1] >= 1 - 1e-5).all()
        assert (alpha[trimap == 0] <= 1e-5).all()
        assert all(torch.equal(sample[key], again[1, index][key]) for key in ("image", "alpha", "trimap"))
    assert not torch.equal(dataset[0, 1]["image"], dataset[1, 1]["image"])


def test_mistakes_are_named():
    with pytest.raises(InputError, match=r"realism\.zoom: expected 0 < smallest"):
        Realism(zoom=(2.0, 1.0))
    with pytest.raises(InputError, match=r"realism\.jpeg_prob: expected a probability"):
        Realism(jpeg_prob=1.5)
