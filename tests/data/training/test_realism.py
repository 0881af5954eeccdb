"""Realism in training samples: its own random stream, files drawn as before, and libraries of several sets."""

import numpy as np
import pytest
import torch

from data.images.files import write_png
from data.training.dim_dataset import CompositionDataset
from data.training.library import composition_library
from data.training.realism import Realism
from runtime.errors import InputError

SETTINGS = {"crop_size": 64, "trimap_size": None, "pairing": "random", "interpolation": "linear", "cache": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two sets of three soft discs each over two backgrounds."""
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :150]
    for name in ("rendered", "flat"):
        for part in ("fg", "alpha"):
            (folder / name / part).mkdir(parents=True)
        for number in range(3):
            alpha = np.clip(30 + 10 * number - np.hypot(y - 60, x - 75), 0, 8) / 8
            write_png(folder / name / "fg" / f"{name}{number}.png", rng.integers(0, 256, (120, 150, 3), np.uint8))
            write_png(folder / name / "alpha" / f"{name}{number}.png", np.rint(255 * alpha).astype(np.uint8))
    (folder / "bg").mkdir()
    for number in range(2):
        write_png(folder / "bg" / f"{number}.png", rng.integers(0, 256, (200, 160, 3), np.uint8))
    return folder


def one_set(root, **settings):
    folders = {"fg_dir": root / "flat" / "fg", "alpha_dir": root / "flat" / "alpha", "bg_dir": root / "bg"}
    return CompositionDataset(**folders, samples_per_epoch=20, seed=4, **SETTINGS, **settings)


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


def test_a_library_takes_its_sets_in_their_shares(root):
    library = composition_library(root, {"rendered": 0.75, "flat": 0.25}, samples_per_epoch=40, **SETTINGS)
    names = [library[index]["name"] for index in range(40)]
    assert sum(name.startswith("rendered") for name in names) == 30
    assert library.with_crop_size(32)[0]["image"].shape == (3, 32, 32)
    left_out = composition_library(root, {"rendered": 1.0, "missing": 0.0}, samples_per_epoch=4, **SETTINGS)
    left_out.list_files()
    assert left_out[3]["name"].startswith("rendered")


def test_mistakes_are_named(root):
    with pytest.raises(InputError, match=r"realism\.zoom: expected 0 < smallest"):
        Realism(zoom=(2.0, 1.0))
    with pytest.raises(InputError, match=r"realism\.jpeg_prob: expected a probability"):
        Realism(jpeg_prob=1.5)
    with pytest.raises(InputError, match="holding bg, and fg and alpha in each of rendered, flat"):
        composition_library(None, {"rendered": 1.0, "flat": 1.0})
    with pytest.raises(InputError, match="no such folder"):
        composition_library(root, {"other": 1.0}, **SETTINGS).list_files()
