"""Folders of pictures and masks: the geometry by hand, repeatable draws, and files that are refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.images.segmentation_files import ROOT_VARIABLE
from data.testing.segmentation_folder import SegmentationFolder
from data.training.crop_sized import with_crop_size
from data.training.segmentation_folders import Draw, SegmentationFolders, SegmentationRecipe, draw_sample, make_sample
from runtime.errors import InputError

CLASSES = [
    {"name": "background", "colour": [0, 0, 0], "value": 0},
    {"name": "person", "colour": [0, 255, 0], "value": 1},
]
PLAIN = {"scale": (1, 1), "flip_prob": 0, "rotation": 0, "brightness": 0, "contrast": 0}


@pytest.fixture
def root(tmp_path):
    """Two pictures for training, one for validation; a person is red."""
    for index, (split, size) in enumerate((("train", (40, 60)), ("train", (50, 30)), ("valid", (37, 53)))):
        person = np.zeros(size, np.uint8)
        person[10:30, 5 + index : 20] = 1
        image = np.full((*size, 3), 40, np.uint8)
        image[person == 1] = (200, 30, 30)
        for kind, pixels in (("images", image), ("masks", person)):
            (tmp_path / f"{split}_{kind}").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"{split}_{kind}" / f"p.{index}.png")
    return tmp_path


def squares() -> tuple[np.ndarray, np.ndarray]:
    """A picture of 4 x 8 whose quarters have their own gray, and class 1 in the top left one."""
    image = np.kron(np.array([[10, 60], [110, 160]], np.uint8), np.ones((2, 4), np.uint8))
    mask = np.kron(np.array([[1, 0], [0, 0]], np.uint8), np.ones((2, 4), np.uint8))
    return np.repeat(image[..., None], 3, axis=2), mask


def test_a_picture_that_fits_is_kept_and_what_is_beyond_it_ignored():
    image, mask = squares()
    crop, labels = make_sample(image, mask, Draw(), (6, 8))  # 4 x 8 in 6 x 8: a row above and one below
    assert np.array_equal(labels[1:5], mask)
    assert (labels[[0, 5]] == 255).all()
    np.testing.assert_allclose(crop[1:5], image / 255, atol=1e-6)
    np.testing.assert_allclose(crop[0, 0] * 255, (124, 116, 104), atol=1e-4)


def test_the_aspect_ratio_is_kept():
    image, mask = squares()
    crop, labels = make_sample(image, mask, Draw(), (16, 16))  # twice as large, 8 x 16
    assert (labels != 255).sum() == 8 * 16
    assert np.array_equal(labels[4:12], np.kron(mask, np.ones((2, 2), np.uint8)))
    assert np.array_equal(np.unique(np.rint(crop[[5, 10]][:, [2, 13]] * 255)), [10, 60, 110, 160])


def test_flip_turn_and_place_move_picture_and_mask_alike():
    image, mask = squares()
    mask = (image[..., 0] // 50).astype(np.uint8)  # the mask says which gray is there
    for drawn in (
        Draw(flip=True), Draw(angle=90), Draw(angle=-20, scale=3), Draw(scale=2, place=(1, 0)),
        Draw(scale=0.5, flip=True),
    ):  # fmt: skip
        crop, labels = make_sample(image, mask, drawn, (8, 8))
        levels = np.rint(crop[..., 0] * 255).astype(int)
        exact = np.isin(levels, [10, 60, 110, 160]) & (labels != 255)  # pixels between two grays are neither
        assert exact.sum() >= 4
        assert np.array_equal(labels[exact], levels[exact] // 50)
    flipped = make_sample(image, mask, Draw(flip=True), (4, 8))[1]
    assert np.array_equal(flipped, mask[:, ::-1])
    numbers = np.arange(25, dtype=np.uint8).reshape(5, 5)
    turned = make_sample(np.zeros((5, 5, 3), np.uint8), numbers, Draw(angle=90), (5, 5))[1]
    assert np.array_equal(turned, np.rot90(numbers))  # counter-clockwise
    corner = make_sample(image, mask, Draw(scale=2, place=(1, 0)), (4, 8))[1]
    assert (corner == 2).all()  # the bottom left quarter


def test_light_changes_the_picture_alone_and_stays_in_range():
    image, mask = squares()
    crop, labels = make_sample(image, mask, Draw(gain=1.2, lift=-0.1), (4, 8))
    np.testing.assert_allclose(crop, ((image / 255 - 0.5) * 1.2 + 0.4).clip(0, 1), atol=1e-6)
    assert np.array_equal(labels, mask)


def test_large_pictures_are_reduced_by_area():
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    crop, _ = make_sample(noise, np.zeros((400, 400), np.uint8), Draw(), (20, 20))
    np.testing.assert_allclose(crop, noise.reshape(20, 20, 20, 20, 3).mean((1, 3)) / 255, atol=1 / 255)


def test_draws_are_within_the_recipe_and_always_as_many():
    recipe = SegmentationRecipe(64)
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    draws = [draw_sample(recipe, rng) for _ in range(500)]
    for _ in range(500):
        draw_sample(SegmentationRecipe(32, **PLAIN), other)
    assert rng.random() == other.random()
    assert 0.75 <= min(draw.scale for draw in draws) < 0.8
    assert 1.45 < max(draw.scale for draw in draws) <= 1.5
    assert 24 < max(abs(draw.angle) for draw in draws) <= 25
    assert np.mean([draw.flip for draw in draws]) == pytest.approx(0.5, abs=0.07)


def test_samples_are_a_function_of_seed_epoch_and_index(root):
    dataset = SegmentationFolders(root, classes=CLASSES, samples_per_epoch=5, crop_size=(32, 48), seed=3)
    again = SegmentationFolders(root, classes=CLASSES, samples_per_epoch=5, crop_size=(32, 48), seed=3)
    again[4, 1]
    for key in ((0, 0), (2, 3)):
        assert all(torch.equal(dataset[key][name], again[key][name]) for name in ("image", "mask"))
    assert not torch.equal(dataset[0, 0]["image"], dataset[2, 0]["image"])
    assert [dataset[0, index]["name"] for index in range(3)] == ["p.0", "p.1", "p.0"]  # dotted names are whole
    sample = dataset[1]
    assert (sample["image"].shape, sample["mask"].shape, sample["mask"].dtype) == ((3, 32, 48), (32, 48), torch.int64)
    assert with_crop_size(dataset, 20)[1]["mask"].shape == (20, 20)
    plain = SegmentationFolders(root, classes=CLASSES, crop_size=60, **PLAIN)[0]
    red = plain["image"][0] - plain["image"][1] > 0.3
    assert torch.equal(red & (plain["mask"] != 255), plain["mask"] == 1)


def test_the_root_may_come_from_the_environment(root, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    item = SegmentationFolder(classes=CLASSES)[0]
    assert (item["name"], item["image"].shape, item["mask"].sum()) == ("p.2", (37, 53, 3), 20 * 13)
    assert len(SegmentationFolders(classes=CLASSES, samples_per_epoch=7)) == 7
    monkeypatch.delenv(ROOT_VARIABLE)
    with pytest.raises(InputError, match=f"set the data set's root, or the environment variable {ROOT_VARIABLE}"):
        SegmentationFolder(classes=CLASSES).files()
    with pytest.raises(InputError, match=r"other/valid_images, .*expected folders of pictures and of masks"):
        SegmentationFolder(root / "other", classes=CLASSES).files()


def test_bad_files_are_named(root):
    Image.fromarray(np.full((50, 30), 9, np.uint8)).save(root / "train_masks" / "p.1.png")
    training = SegmentationFolders(root, classes=CLASSES)
    assert training.problems(decode=False) == []
    (line,) = training.problems()
    assert "train_masks/p.1.png: unknown values 9; expected 0 (background), 1 (person)" in line
    assert SegmentationFolders(root, classes=CLASSES, mask_mode="binary").problems() == []
    with pytest.raises(InputError, match=r"p\.1\.png: unknown values 9"):
        training[1]
    skipping = SegmentationFolders(root, classes=CLASSES, on_bad="skip", crop_size=20)
    assert skipping[1]["name"] == "p.0"
    assert skipping[1]["redrawn"] >= 1
    Image.new("L", (8, 8)).save(root / "train_masks" / "p.0.png")
    assert any("8 x 8 pixels" in line for line in training.problems(decode=False))
    (root / "train_masks" / "p.1.png").write_bytes(b"no picture")
    assert sum("p.1.png" in line for line in training.problems()) == 1
    (root / "train_masks" / "p.0.png").unlink()
    with pytest.raises(InputError, match=r"p\.0\.png: no image of that name in .*every picture needs its mask"):
        SegmentationFolders(root, classes=CLASSES).list_files()
    (root / "valid_masks" / "p.2.png").unlink()
    with pytest.raises(InputError, match=r"p\.2\.png: no image of that name"):
        SegmentationFolder(root, classes=CLASSES).files()


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"crop_size": 0}, "crop_size"), ({"scale": (2, 1)}, "scale"), ({"rotation": 200}, "rotation"),
        ({"contrast": 1}, "contrast"), ({"mask_mode": "rgb"}, "mask_mode"), ({"seed": -1}, "seed"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(setting, problem):
    with pytest.raises(InputError, match=problem):
        SegmentationFolders("nowhere", classes=CLASSES, **setting)
