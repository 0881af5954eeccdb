"""Photographs with alphas as training samples, and mixtures of data sets."""

import logging
import pickle
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from PIL import Image
from torch.utils.data import Dataset, default_collate

from data.synthetic import SyntheticMatting
from data.training.alpha_folders import AlphaFolderDataset
from data.training.alpha_layouts import LAYOUTS
from data.training.dim_dataset import CompositionDataset
from data.training.loader import build_train_loader
from data.training.mixture import Mixture, shares
from data.transforms import AffineRange
from engine.config import build
from runtime.errors import InputError

PLAIN = {"resize640_prob": 0, "affine": None, "interpolation": "linear", "colour_jitter": False, "trimap_size": None}
STILL = {"rotation": 0, "scale": (1, 1), "shear": 0}
SIDE = 50


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coordinates(side=SIDE):
    """A picture whose red is 5 times the row and green 5 times the column."""
    rows, columns = np.mgrid[:side, :side]
    return np.dstack([5 * rows, 5 * columns, np.zeros_like(rows)]).astype(np.uint8)


def ramp(side=SIDE):
    """Alpha 0 on the left, 255 on the right, with ten columns between that no two rows share."""
    rows, columns = np.mgrid[:side, :side]
    return np.clip(25 * (columns - 15 - rows // 5), 0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """Three photographs: ant, bee and cat, told apart by their blue."""
    for blue, (name, suffix) in enumerate((("ant", "png"), ("bee", "PNG"), ("cat", "bmp"))):
        image = coordinates()
        image[..., 2] = blue
        save(tmp_path / "original" / f"{name}.{suffix}", image)
        save(tmp_path / "mask" / f"{name}.png", ramp())
    return tmp_path


def dataset_of(root, **options):
    return AlphaFolderDataset(root, "aim-500", **{"crop_size": 16, "samples_per_epoch": 6, **PLAIN, **options})


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


def message(action):
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- a sample


def window(sample):
    """The rows and columns of the photograph that a crop of `coordinates` shows."""
    red, green = (sample["image"][:2] * 255 / 5).round().int().numpy()
    return red, green


def test_a_crop_is_a_window_of_photograph_and_alpha(photographs):
    dataset = dataset_of(photographs)
    for index in range(6):
        sample = dataset[index]
        rows, columns = window(sample)
        assert (np.diff(rows, axis=0) == 1).all()
        assert (np.diff(columns, axis=1) == 1).all()
        np.testing.assert_array_equal((sample["alpha"][0] * 255).round().int(), ramp()[rows, columns])
        assert torch.equal(sample["image"][2] * 255, torch.full((16, 16), float(index % 3)))
        assert sample["name"] == ("ant", "bee", "cat")[index % 3]


def test_of_a_list_of_crop_sizes_one_is_drawn_and_resized_to_the_smallest(photographs):
    listed, small, large = (dataset_of(photographs, crop_size=side) for side in ([16, 32], 16, 32))
    kinds = set()
    for key in ((epoch, index) for epoch in range(2) for index in range(6)):
        given, one, other = (crops[key]["alpha"][None] for crops in (listed, small, large))
        assert given.shape == one.shape
        halved = F.avg_pool2d(other, 2)  # of 2 x 2 pixels, bilinear sampling is their mean
        matches = [torch.allclose(given, each, atol=1e-5) for each in (one, halved)]
        assert sum(matches) == 1
        kinds.add(matches[0])
    assert kinds == {True, False}


def test_the_trimap_is_eroded_alpha(photographs):
    """An ellipse of side 3 is a cross: a pixel stays known where its four neighbours are as it is."""
    alpha = ramp().astype(int)
    expected = np.full(alpha.shape, 0.5)
    for y, x in np.ndindex(alpha.shape):
        around = [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        levels = {alpha[i, j] for i, j in around if 0 <= i < SIDE and 0 <= j < SIDE}
        if levels in ({0}, {255}):
            expected[y, x] = levels.pop() / 255
    dataset = dataset_of(photographs, trimap_erosion=(3, 3))
    for index in range(6):
        sample = dataset[index]
        np.testing.assert_array_equal(sample["trimap"][0], expected[window(sample)])
        assert sample["trimap"][0, 8, 8] == 0.5  # the crop's centre


def test_what_comes_in_from_outside_is_mirrored_in_image_and_alpha_alike(photographs):
    """The recipe's centre is half a pixel past the middle, so a flip reads column 51 - x: from 48 and 47 again."""
    dataset = dataset_of(photographs, crop_size=SIDE - 1, affine=AffineRange(**STILL, flip_prob=1))
    sample = dataset[0]
    rows, columns = window(sample)
    mirrored = [47, 48, *range(49, -1, -1)]
    left, top = mirrored[2:].index(columns[0, 2]), mirrored[2:].index(rows[2, 0])
    np.testing.assert_array_equal(columns[0], mirrored[left : left + 49])
    np.testing.assert_array_equal(rows[:, 0], mirrored[top : top + 49])
    np.testing.assert_array_equal((sample["alpha"][0] * 255).round().int(), ramp()[rows, columns])


def test_image_and_alpha_stay_together_through_all_of_the_affine(photographs):
    """The photographs are their own alphas, so the samples must be too, wherever the affine takes them."""
    for name in ("ant.png", "bee.PNG", "cat.bmp"):
        save(photographs / "original" / name, np.repeat(cv2.GaussianBlur(ramp(), (9, 9), 0)[..., None], 3, axis=2))
    for name in ("ant", "bee", "cat"):
        save(photographs / "mask" / f"{name}.png", cv2.GaussianBlur(ramp(), (9, 9), 0))
    ranges = AffineRange(rotation_min_side=0)
    for crop_size in (16, 70):  # the second is larger than the photographs
        dataset = dataset_of(photographs, affine=ranges, crop_size=crop_size, resize640_prob=0.5)
        for index in range(6):
            sample = dataset[1, index]
            difference = (sample["image"] - sample["alpha"]).abs()
            assert difference.max() <= 1.01 / 255  # the image is rounded to levels, alpha is not


def test_no_border_comes_in(photographs):
    save(photographs / "original" / "ant.png", np.full((SIDE, SIDE, 3), 200, np.uint8))
    dataset = dataset_of(photographs, affine=AffineRange(rotation_min_side=0, shear=10), crop_size=49)
    assert all((dataset[epoch, 0]["image"] == np.float32(200) / np.float32(255)).all() for epoch in range(8))


def test_keys_and_types_are_those_of_a_composed_sample(photographs):
    save(photographs / "bg" / "field.png", coordinates())
    composed = CompositionDataset(
        fg_dir=photographs / "original",
        alpha_dir=photographs / "mask",
        bg_dir=photographs / "bg",
        crop_size=16,
        return_layers=True,
    )[0]
    sample = dataset_of(photographs, crop_size=16, return_layers=True)[0]
    assert sample.keys() == composed.keys()
    for key, value in composed.items():
        assert type(value) is type(sample[key])
        if key != "name":
            assert (sample[key].shape, sample[key].dtype) == (value.shape, value.dtype)
    torch.testing.assert_close(sample["alpha"] * sample["fg"] + (1 - sample["alpha"]) * sample["bg"], sample["image"])


def test_colour_jitter_leaves_alpha_and_trimap_alone(photographs):
    plain, jittered = dataset_of(photographs)[3], dataset_of(photographs, colour_jitter=True)[3]
    assert torch.equal(plain["alpha"], jittered["alpha"])
    assert torch.equal(plain["trimap"], jittered["trimap"])
    assert not torch.equal(plain["image"], jittered["image"])
    assert 0 <= jittered["image"].min() <= jittered["image"].max() <= 1


def test_alpha_noise_can_be_cleared(photographs):
    save(photographs / "mask" / "ant.png", np.clip(ramp(), 1, 254))
    assert dataset_of(photographs)[0]["alpha"].min() >= 1 / 255
    sample = dataset_of(photographs, alpha_snap=1 / 255)[0]
    np.testing.assert_array_equal((sample["alpha"][0] * 255).round().int(), ramp()[window(sample)])


# --- repeatable


def test_a_sample_is_a_function_of_seed_epoch_and_index(photographs):
    full = {"affine": AffineRange(), "interpolation": "random", "colour_jitter": True, "resize640_prob": 0.25}
    first, again = (dataset_of(photographs, **full, seed=5) for _ in range(2))
    again[1, 2]
    assert same(first[2, 4], again[2, 4])
    assert same(first[4], again[0, 4])
    assert not torch.equal(first[2, 4]["image"], first[3, 4]["image"])
    assert not torch.equal(first[2, 4]["image"], dataset_of(photographs, **full, seed=6)[2, 4]["image"])


def test_photographs_are_used_in_turn_across_epochs(photographs):
    dataset = dataset_of(photographs, samples_per_epoch=4)
    names = [dataset[epoch, index]["name"] for epoch in range(3) for index in range(4)]
    assert names == ["ant", "bee", "cat"] * 4


def test_constructing_touches_no_disk():
    pickle.loads(pickle.dumps(AlphaFolderDataset("nowhere", "am-2k")))
    with pytest.raises(IndexError):
        AlphaFolderDataset("nowhere", "am-2k", samples_per_epoch=3)[3]


# --- folders


@pytest.mark.parametrize(
    ("layout", "images", "alphas"),
    [
        ("p3m-10k", "blurred_image", "mask"),
        ("p3m-10k", "original_image", "mask"),
        ("am-2k", "original", "mask"),
        ("aim-500", "original", "mask"),
        ("distinctions-646", "FG", "GT"),
    ],
)
def test_layouts_by_name(tmp_path, layout, images, alphas):
    save(tmp_path / images / "p_1.jpg", coordinates())
    save(tmp_path / alphas / "p_1.png", ramp())
    assert AlphaFolderDataset(tmp_path, layout, crop_size=16)[0]["name"] == "p_1"
    assert AlphaFolderDataset(tmp_path, layout).folders() == (tmp_path / images, tmp_path / alphas)


def test_folders_of_any_name(photographs):
    named = AlphaFolderDataset(
        image_dir=photographs / "original", alpha_dir=photographs / "mask", crop_size=16, samples_per_epoch=6, **PLAIN
    )
    assert same(named[1], dataset_of(photographs)[1])


def test_folders_that_are_not_there_are_named(tmp_path):
    text = message(lambda: AlphaFolderDataset(tmp_path, "p3m-10k")[0])
    assert str(tmp_path) in text
    assert "blurred_image or original_image, and mask" in text
    assert "image_dir and alpha_dir" in message(lambda: AlphaFolderDataset(tmp_path)[0])
    assert "nothing" in message(lambda: AlphaFolderDataset(image_dir=tmp_path / "nothing", alpha_dir=tmp_path)[0])
    assert ", ".join(LAYOUTS) in message(lambda: AlphaFolderDataset(tmp_path, "coco"))
    assert "alpha_snap" in message(lambda: AlphaFolderDataset(tmp_path, "am-2k", alpha_snap=0.5))


def test_bad_files_are_named_or_skipped(photographs, caplog):
    (photographs / "mask" / "ant.png").unlink()
    (photographs / "original" / "bee.PNG").write_bytes(b"no image")
    dataset = dataset_of(photographs)
    assert "ant.png" in message(lambda: dataset[0])
    problems = dataset.problems()
    assert len(problems) == 2
    assert "ant.png" in problems[0]
    assert "bee.PNG" in problems[1]
    with caplog.at_level(logging.WARNING):
        skipping = dataset_of(photographs, on_bad="skip")
        assert {skipping[index]["name"] for index in range(6)} == {"cat"}
        assert [next(n for n in ("ant.png", "bee.PNG") if n in line) for line in caplog.messages] == [
            "ant.png",
            "bee.PNG",
        ]


def test_a_scan_that_decodes_finds_a_picture_in_colours_for_an_alpha(photographs):
    save(photographs / "mask" / "cat.png", coordinates())
    dataset = dataset_of(photographs)
    (problem,) = dataset.problems(decode=True)
    assert "cat.png: expected a gray alpha, found a picture in colours" in problem
    assert dataset.problems(decode=False) == []
    assert problem == message(lambda: dataset[2])


# --- mixtures


class Numbers(Dataset):
    """Sample (epoch, index) is the number epoch * length + index, below `base` apart."""

    def __init__(self, length, base, size=1):
        self.length, self.base, self.size = length, base, size

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, index = key
        assert 0 <= index < self.length
        return {"image": torch.full((self.size,), self.base + epoch * self.length + index)}


def numbers(mixture, epochs=1):
    return [mixture[epoch, index]["image"].item() for epoch in range(epochs) for index in range(len(mixture))]


@pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
        ([1], 7, [7]),
        ([2, 1], 10, [7, 3]),  # 6.67 and 3.33
        ([1, 1, 1], 10, [4, 3, 3]),  # a tie goes to the first
        ([0.5, 0, 0.25], 3, [2, 0, 1]),
        ([5, 3, 1], 100, [56, 33, 11]),  # 55.56, 33.33, 11.11
    ],
)
def test_shares_by_hand(weights, total, expected):
    assert shares(weights, total) == expected


def test_every_epoch_has_the_shares_and_every_sample_its_turn():
    mixture = Mixture([(Numbers(5, 0), 2), (Numbers(100, 1000), 1)], samples_per_epoch=10, seed=1)
    per_epoch = np.reshape(numbers(mixture, 4), (4, 10))
    assert ((per_epoch < 1000).sum(axis=1) == 7).all()
    drawn = per_epoch.ravel()
    assert drawn[drawn < 1000].tolist() == list(range(28))  # on through its own epochs of five
    assert drawn[drawn >= 1000].tolist() == list(range(1000, 1012))
    assert len({tuple(row >= 1000) for row in per_epoch}) == 4  # an order of its own each epoch


def test_a_mixture_is_a_function_of_seed_epoch_and_index():
    parts = [(Numbers(5, 0), 2), (Numbers(100, 1000), 1)]
    whole = numbers(Mixture(parts, 10, seed=1), 6)
    for position in (57, 3, 31, 12, 58, 0):  # any order, any distance
        assert Mixture(parts, 10, seed=1)[divmod(position, 10)]["image"].item() == whole[position]
    jumping = Mixture(parts, 10, seed=1)
    assert [jumping[p % 6, p // 6]["image"].item() for p in range(60)] == [
        whole[10 * (p % 6) + p // 6] for p in range(60)
    ]
    assert numbers(Mixture(parts, 10, seed=2), 6) != whole


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_workers(photographs, num_workers):
    def batches(workers):
        mixture = Mixture(
            [(dataset_of(photographs, crop_size=32), 1), (SyntheticMatting(32, backgrounds="textures"), 2)], 8, seed=3
        )
        return list(islice(build_train_loader(mixture, batch_size=4, num_workers=workers, seed=3), 3))

    for here, there in zip(batches(0), batches(num_workers), strict=True):
        assert same(here, there)
        assert here["image"].shape == (4, 3, 32, 32)


def test_a_mixture_can_be_a_config(photographs):
    part = L(AlphaFolderDataset)(root=str(photographs), layout="aim-500", crop_size=32)
    node = L(Mixture)(parts=[(part, 2), (L(SyntheticMatting)(size=32), 1)], samples_per_epoch=3, seed=0)
    mixture = build(node)
    assert mixture.counts == [2, 1]
    assert [type(dataset) for dataset in mixture.datasets] == [AlphaFolderDataset, SyntheticMatting]
    assert mixture.problems() == []
    assert mixture.on_bad == "error"
    assert mixture[1, 2]["image"].shape == (3, 32, 32)


def test_samples_of_a_mixture_have_equal_keys(photographs):
    (photographs / "original" / "bee.PNG").write_bytes(b"no image")
    parts = [(dataset_of(photographs, crop_size=32, on_bad="skip"), 1), (SyntheticMatting(32), 1)]
    samples = [Mixture(parts, 12)[index] for index in range(12)]
    assert {frozenset(sample) for sample in samples} == {frozenset(("image", "trimap", "alpha", "name", "redrawn"))}
    assert {sample["redrawn"] for sample in samples if sample["name"] not in ("ant", "cat")} == {0}
    assert default_collate(samples)["redrawn"].sum() >= 2  # two of the six photographs drawn are the bad one
    with_layers = [(dataset_of(photographs, crop_size=32, return_layers=True), 1), (SyntheticMatting(32), 1)]
    mixture = Mixture(with_layers, 12, return_layers=True)
    assert "fg" in mixture[0]
    assert mixture.knows_layers
    assert not Mixture(with_layers[:1], 12, return_layers=True).knows_layers


def test_problems_of_all_parts_that_are_used(photographs):
    (photographs / "mask" / "ant.png").unlink()
    bad = dataset_of(photographs, on_bad="skip")
    assert len(Mixture([(bad, 1), (Numbers(5, 0), 1)], 10).problems()) == 1
    assert Mixture([(bad, 0), (Numbers(5, 0), 1)], 10).problems() == []
    assert Mixture([(bad, 1)], 10).on_bad == "skip"


def test_mistakes_in_a_mixture_are_told():
    part = Numbers(5, 0)
    for weights in ([-1, 2], [0, 0], [float("nan"), 1], []):
        assert "weights" in message(lambda w=weights: Mixture([(part, weight) for weight in w], 10))
    assert "less than one sample of 10" in message(lambda: Mixture([(part, 1000), (part, 1)], 10))
    assert "pairs" in message(lambda: Mixture([part], 10))
    assert "samples_per_epoch" in message(lambda: Mixture([(part, 1)], 0))
    with pytest.raises(IndexError):
        Mixture([(part, 1)], 10)[10]
    assert "one size only" in message(lambda: Mixture([(part, 1)], 10).with_crop_size(4))
    unlike = Mixture([(part, 1), (Numbers(5, 0, size=2), 1)], 10)
    assert "crop size" in message(lambda: [unlike[index] for index in range(10)])
