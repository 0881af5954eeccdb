"""The training set on disk: what a sample is, that it can be repeated, and what happens with bad files."""

import io
import logging
import multiprocessing
import pickle
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from data.images.scan import training_set_problems
from data.training.dim_dataset import ROOT_VARIABLE, CompositionDataset
from data.training.loader import EpochSampler
from data.training.repeatable import MAX_ATTEMPTS
from data.training.workers import init_worker
from runtime.errors import InputError

SMALL = {"crop_size": 64, "samples_per_epoch": 20, "trimap_size": 128, "trimap_erosion": (1, 9)}


def photograph(rng, size):
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)


def disc(size, radius=0.3):
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(x - size[1] / 2, y - size[0] / 2)
    return Image.fromarray((np.clip((radius * min(size) - distance) / 8 + 0.5, 0, 1) * 255).astype(np.uint8))


@pytest.fixture
def root(tmp_path):
    """3 foregrounds (JPEG, PNG, upper-case extension; alphas of other formats) and 5 backgrounds."""
    rng = np.random.default_rng(0)
    for name in ("fg", "alpha", "bg"):
        (tmp_path / name).mkdir()
    for stem, fg_suffix, alpha_suffix in (("cat", "jpg", "png"), ("ant", "JPG", "jpeg"), ("bee", "png", "PNG")):
        photograph(rng, (120, 150)).save(tmp_path / "fg" / f"{stem}.{fg_suffix}")
        disc((120, 150)).save(tmp_path / "alpha" / f"{stem}.{alpha_suffix}")
    for index in range(5):
        photograph(rng, (70, 90)).save(tmp_path / "bg" / f"bg{index}.jpg")
    (tmp_path / "bg" / "Thumbs.db").write_bytes(b"not an image")
    return tmp_path


def same(first, second):
    return all(
        torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        for key, value in first.items()
    )


# --- what a sample is


def test_sample_shapes_ranges_and_composite(root):
    sample = CompositionDataset(root, **SMALL, return_layers=True)[0, 3]
    for name in ("image", "fg", "bg"):
        assert sample[name].shape == (3, 64, 64)
        assert 0 <= sample[name].min() <= sample[name].max() <= 1
    for name in ("alpha", "trimap"):
        assert sample[name].shape == (1, 64, 64)
    assert {value.dtype for key, value in sample.items() if key != "name"} == {torch.float32}
    assert set(sample["trimap"].unique().tolist()) <= {0, 0.5, 1}
    assert sample["name"] == "ant"  # background 3 meets foreground 3 % 3, in sorted order
    image = sample["alpha"] * sample["fg"] + (1 - sample["alpha"]) * sample["bg"]
    torch.testing.assert_close(sample["image"], image)


def test_colours_are_red_green_blue(root):
    for path in (root / "fg").iterdir():
        Image.new("RGB", (150, 120), (250, 120, 10)).save(path, quality=98)
    plain = {"colour_jitter": False, "affine": None, "double_foreground_prob": 0}
    dataset = CompositionDataset(root, **SMALL, **plain, return_layers=True)
    red, green, blue = (dataset[0]["fg"].mean(dim=(1, 2)) * 255).tolist()
    assert (red, green, blue) == pytest.approx((250, 120, 10), abs=3)


def test_crop_shows_unknown_at_its_centre(root):
    dataset = CompositionDataset(root, **SMALL)
    centres = [dataset[index]["trimap"][0, 32, 32].item() for index in range(len(dataset))]
    assert centres.count(0.5) >= len(centres) - 1  # a draw may leave fewer than ten places


@pytest.mark.parametrize("return_layers", [False, True])
def test_of_a_list_of_crop_sizes_one_is_drawn_and_resized_to_the_smallest(root, return_layers):
    settings = {**SMALL, "trimap_erosion": (5, 5), "return_layers": return_layers}
    listed = CompositionDataset(root, **settings | {"crop_size": [64, 96, 80]})
    plain = {side: CompositionDataset(root, **settings | {"crop_size": side}) for side in (64, 80, 96)}
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    drawn = []
    for index in range(20):
        sample = listed[1, index]
        for side, crops in plain.items():
            resized = {
                name: F.interpolate(value[None], size=(64, 64), mode="bilinear")[0]  # torch's, as cv2.INTER_LINEAR
                for name, value in crops[1, index].items()
                if isinstance(value, torch.Tensor) and name != "trimap"
            }
            if all(torch.allclose(sample[name], value, atol=2e-3) for name, value in resized.items()):
                drawn.append(side)
        alpha = sample["alpha"][0].numpy()
        known = alpha >= 1 - 1e-5, alpha <= 1e-5
        foreground, background = (cv2.erode(region.astype(np.uint8), ellipse) for region in known)
        np.testing.assert_array_equal(sample["trimap"][0], 0.5 + foreground / 2 - background / 2)
        assert (sample["trimap"] == 0.5).any()
    assert len(drawn) == 20
    assert set(drawn) == {64, 80, 96}


def test_constructing_touches_no_disk():
    dataset = CompositionDataset("nowhere/at/all")
    assert len(dataset) == 43100
    pickle.loads(pickle.dumps(dataset))


# --- repeatable


def test_sample_is_a_function_of_seed_epoch_and_index(root):
    first, again = CompositionDataset(root, **SMALL, seed=5), CompositionDataset(root, **SMALL, seed=5)
    again[1, 7]  # what was asked before does not matter
    assert same(first[2, 4], again[2, 4])
    assert same(first[4], again[0, 4])
    assert not torch.equal(first[2, 4]["image"], first[3, 4]["image"])
    assert not torch.equal(first[2, 4]["image"], first[2, 9]["image"])
    assert not torch.equal(first[2, 4]["image"], CompositionDataset(root, **SMALL, seed=6)[2, 4]["image"])


def batches(dataset, num_workers, context=None):
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=EpochSampler(len(dataset), seed=1),
        num_workers=num_workers,
        worker_init_fn=init_worker,
        multiprocessing_context=context,
    )
    return list(islice(iter(loader), 3))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_same_samples_for_any_number_of_workers(root, num_workers):
    dataset = CompositionDataset(root, **SMALL)
    for here, there in zip(batches(dataset, 0), batches(dataset, num_workers), strict=True):
        assert same(here, there)


@pytest.mark.slow
def test_same_samples_in_freshly_started_processes(root):
    dataset = CompositionDataset(root, **SMALL)
    context = multiprocessing.get_context("spawn")
    for here, there in zip(batches(dataset, 0), batches(dataset, 2, context), strict=True):
        assert same(here, there)


@pytest.mark.parametrize("interpolation", ["random", "linear"])
def test_a_sample_is_the_same_with_and_without_layers_and_cache(monkeypatch, root, tmp_path, interpolation):
    monkeypatch.setenv("DINOMATTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("data.training.decoded_cache.SETTLED_AFTER", 0)
    settings = {**SMALL, "interpolation": interpolation, "seed": 3}
    whole = CompositionDataset(root, **settings, cache=None, return_layers=True)
    cached = CompositionDataset(root, **settings, cache="50MB")
    for _ in range(2):  # filling, then full
        for index in range(20):
            sample = cached[1, index]
            assert set(sample) == {"image", "alpha", "trimap", "name"}
            assert same(sample, whole[1, index])
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6


def test_same_samples_for_workers_that_share_a_cache(monkeypatch, root, tmp_path):
    monkeypatch.setenv("DINOMATTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("data.training.decoded_cache.SETTLED_AFTER", 0)
    cached = CompositionDataset(root, **SMALL, cache="50MB")
    for here, there in zip(batches(CompositionDataset(root, **SMALL, cache=None), 0), batches(cached, 2), strict=True):
        assert same(here, there)


def test_large_backgrounds_can_be_decoded_reduced(root):
    rng = np.random.default_rng(0)
    for path in (root / "bg").glob("*.jpg"):
        photograph(rng, (700, 900)).save(path, quality=95)
    settings = {**SMALL, "double_foreground_prob": 0, "resize640_prob": 0, "return_layers": True}
    whole, reduced = (CompositionDataset(root, **settings, reduced_decode=on) for on in (False, True))
    for index in range(8):
        here, there = whole[index], reduced[index]
        assert all(torch.equal(here[key], there[key]) for key in ("fg", "alpha", "trimap"))
        assert not torch.equal(here["bg"], there["bg"])
        assert (here["bg"] - there["bg"]).abs().mean() < 2 / 255


def test_settings_change_only_what_they_name(root):
    double = {"double_foreground_prob": 1, "return_layers": True}
    legacy = CompositionDataset(root, **SMALL, **double, double_foreground="legacy")
    exact = CompositionDataset(root, **SMALL, **double, double_foreground="exact")
    for index in range(4):
        assert torch.equal(legacy[index]["alpha"], exact[index]["alpha"])
        assert torch.equal(legacy[index]["trimap"], exact[index]["trimap"])
        assert torch.equal(legacy[index]["bg"], exact[index]["bg"])


# --- which files meet


def met_files(monkeypatch, dataset, keys):
    """The background and first foreground of each sample, without making the samples."""
    met = []
    monkeypatch.setattr("data.training.dim_dataset.read_rgb", lambda path: met.append(path.stem) or np.zeros((9, 9, 3)))
    monkeypatch.setattr(CompositionDataset, "_read_layer", lambda *_: None)
    monkeypatch.setattr("data.training.dim_dataset.make_crop", lambda *_: None)
    monkeypatch.setattr("data.training.dim_dataset._to_tensors", lambda _: {})
    names = [dataset[key]["name"] for key in keys]
    return names, [stem for stem in met if stem.startswith("bg")]


def test_backgrounds_are_used_in_turn_across_epochs(monkeypatch, root):
    dataset = CompositionDataset(root, samples_per_epoch=3)
    _, backgrounds = met_files(monkeypatch, dataset, [(e, i) for e in range(5) for i in range(3)])
    assert backgrounds == [f"bg{i}" for i in range(5)] * 3  # 15 samples, each of 5 backgrounds three times


def test_modulo_pairing_always_gives_a_background_the_same_foreground(monkeypatch, root):
    dataset = CompositionDataset(root, samples_per_epoch=50)
    names, backgrounds = met_files(monkeypatch, dataset, range(50))
    pairs = set(zip(names, backgrounds, strict=True))
    assert pairs == {("ant", "bg0"), ("bee", "bg1"), ("cat", "bg2"), ("ant", "bg3"), ("bee", "bg4")}


def test_random_pairing_brings_all_together(monkeypatch, root):
    dataset = CompositionDataset(root, samples_per_epoch=300, pairing="random")
    names, backgrounds = met_files(monkeypatch, dataset, range(300))
    assert len(set(zip(names, backgrounds, strict=True))) == 15


def test_index_outside_the_epoch_ends_an_iteration(root):
    dataset = CompositionDataset(root, **SMALL)
    for key in (20, -1, (3, 20)):
        with pytest.raises(IndexError):
            dataset[key]


def test_alpha_snap_moves_only_levels_near_the_ends(root):
    levels = np.tile(np.arange(256, dtype=np.uint8), (120, 1))
    layer = (root / "fg" / "bee.png", root / "alpha" / "bee.PNG")
    Image.fromarray(levels).save(layer[1])
    Image.new("RGB", (256, 120)).save(layer[0])
    snapped = CompositionDataset(root, alpha_snap=2 / 255)._read_layer(*layer).alpha[0]
    np.testing.assert_array_equal(snapped[[0, 1, 2, 3, 252, 253, 254, 255]], [0, 0, 0, 3, 252, 255, 255, 255])
    np.testing.assert_array_equal(CompositionDataset(root)._read_layer(*layer).alpha, levels)


# --- bad input


def message(dataset, key=0):
    with pytest.raises(InputError) as caught:
        dataset[key]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_root_the_setting_and_the_variable_are_named(monkeypatch):
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    for root in (None, ""):
        text = message(CompositionDataset(root))
        assert "dataloader.train.dataset.root" in text
        assert ROOT_VARIABLE in text


def test_root_from_the_environment(monkeypatch, root):
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    assert CompositionDataset(**SMALL)[0]["name"] == "ant"


def test_folders_can_be_given_one_by_one(tmp_path, root):
    moved = tmp_path / "elsewhere"
    (root / "bg").rename(moved)
    assert same(
        CompositionDataset(root, bg_dir=moved, **SMALL)[0],
        CompositionDataset(fg_dir=root / "fg", alpha_dir=root / "alpha", bg_dir=moved, **SMALL)[0],
    )


def test_missing_and_empty_folders_are_named(tmp_path, root):
    assert str(tmp_path / "no" / "fg") in message(CompositionDataset(tmp_path / "no"))
    for path in (root / "bg").glob("*.jpg"):
        path.unlink()
    assert str(root / "bg") in message(CompositionDataset(root))


def test_foreground_without_alpha_is_named_or_skipped(root, caplog):
    (root / "alpha" / "bee.PNG").unlink()
    photograph(np.random.default_rng(1), (9, 9)).save(root / "alpha" / "stray.png")
    text = message(CompositionDataset(root, **SMALL))
    assert "bee.png" in text
    assert "stray.png" in text
    with caplog.at_level(logging.WARNING):
        dataset = CompositionDataset(root, **SMALL, on_bad="skip")
        assert {dataset[i]["name"] for i in range(10)} == {"ant", "cat"}
    assert "bee.png" in caplog.text


def truncated_jpeg(path):
    data = io.BytesIO()
    photograph(np.random.default_rng(2), (120, 150)).save(data, "JPEG")
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])


BAD_FILES = {
    "truncated": (truncated_jpeg, "not a readable image"),
    "text": (lambda path: path.write_text("hello"), "not a readable image"),
    "other size": (lambda path: photograph(np.random.default_rng(2), (30, 40)).save(path), "40 x 30"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable image"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_an_error_that_names_it(root, kind):
    spoil, reason = BAD_FILES[kind]
    spoil(root / "fg" / "ant.JPG")
    text = message(CompositionDataset(root, **SMALL, double_foreground_prob=0))
    assert "ant.JPG" in text
    assert reason in text


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_skipped_repeatably_with_one_warning(root, kind, caplog):
    BAD_FILES[kind][0](root / "fg" / "ant.JPG")
    (root / "bg" / "bg1.jpg").write_bytes(b"\xff\xd8 broken")
    dataset = CompositionDataset(root, **SMALL, on_bad="skip")
    with caplog.at_level(logging.WARNING):
        samples = [dataset[index] for index in range(20)]
    assert {sample["name"] for sample in samples} == {"bee", "cat"}
    assert {0, 1} <= {sample["redrawn"] for sample in samples}
    assert all(sample["redrawn"] > 0 for sample in samples[1::5])  # those whose first background is the bad one
    assert default_collate(samples)["redrawn"].dtype == torch.int64
    assert caplog.text.count("ant.JPG") <= 2  # one warning; a size message names the alpha and the foreground
    again = CompositionDataset(root, **SMALL, on_bad="skip")
    assert same(samples[0], again[0])


def test_skipping_gives_up_when_nothing_is_usable(root):
    for path in (root / "bg").glob("*.jpg"):
        path.write_text("no")
    assert f"{MAX_ATTEMPTS} draws" in message(CompositionDataset(root, **SMALL, on_bad="skip"))


@pytest.mark.parametrize(
    "bad",
    [
        {"pairing": "all"},
        {"on_bad": "ignore"},
        {"seed": -1},
        {"samples_per_epoch": 0},
        {"alpha_snap": 0.5},
        {"crop_size": []},
        {"crop_size": [320, 0]},
        {"crop_size": "320"},
        {"crop_size": 320.5},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        CompositionDataset(**bad)


# --- the scan


def test_scan_names_every_bad_file_and_nothing_else(root):
    dataset = CompositionDataset(root)
    assert dataset.problems() == []
    truncated_jpeg(root / "fg" / "ant.JPG")
    (root / "bg" / "bg1.jpg").write_text("text")
    disc((60, 60)).save(root / "alpha" / "cat.png")
    (root / "alpha" / "bee.PNG").unlink()
    problems = dataset.problems()
    assert len(problems) == 4
    for name in ("ant.JPG", "bg1.jpg", "cat.png", "bee.png"):
        assert sum(name in line for line in problems) == 1
    assert all("\n" not in line for line in problems)


def test_quick_scan_reads_headers_only(root):
    truncated_jpeg(root / "fg" / "ant.JPG")
    (root / "bg" / "bg1.jpg").write_text("text")
    problems = training_set_problems(root / "fg", root / "alpha", root / "bg", decode=False)
    assert [line.split(":")[0] for line in problems] == [str(root / "bg" / "bg1.jpg")]


# --- what mattes hold


def test_mattes_that_teach_wrong_are_refused_by_the_scan_and_by_samples(root):
    levels = np.asarray(disc((120, 150)))
    Image.fromarray((levels > 127).astype(np.uint8)).save(root / "alpha" / "cat.png")
    (root / "alpha" / "bee.PNG").unlink()
    Image.fromarray(levels.astype(np.uint16)).save(root / "alpha" / "bee.tif")
    dataset = CompositionDataset(root, **SMALL)
    problems, remarks = dataset.look_at_mattes(decode=False)
    assert [line.split(": ")[1].split(",")[0] for line in problems] == [
        "expected an alpha of 0..65535 in 16 bits",
        "expected an alpha of 0..255",
    ]
    assert remarks == []
    assert set(problems) == set(dataset.problems())
    with pytest.raises(InputError, match=r"0 and 1|of 8 bits"):
        [dataset[index] for index in range(10)]


def test_mattes_in_the_alpha_channel_are_the_mattes_and_reported(root):
    plain = [CompositionDataset(root, **SMALL)[index] for index in range(5)]
    for path in (root / "alpha").glob("*.[pP]*"):
        Image.merge("RGBA", [*photograph(np.random.default_rng(1), (120, 150)).split(), Image.open(path)]).save(path)
    dataset = CompositionDataset(root, **SMALL)
    assert all(same(dataset[index], sample) for index, sample in enumerate(plain))
    problems, (remark,) = dataset.look_at_mattes(decode=False)
    assert problems == []
    assert remark == f"2 alphas: read from the alpha channel (the first is {root / 'alpha' / 'bee.PNG'})"


def test_a_scan_without_decoding_looks_at_some_mattes_and_says_so(root, monkeypatch):
    monkeypatch.setattr("data.images.scan.SAMPLED", 2)
    path = root / "alpha" / "ant.jpeg"
    path.unlink()
    Image.merge("RGBA", [*photograph(np.random.default_rng(1), (120, 150)).split(), disc((120, 150))]).save(
        root / "alpha" / "ant.png"
    )
    (root / "bg" / "clip.psd").touch()
    assert CompositionDataset(root).look_at_mattes(decode=False) == (
        [],
        [
            f"of 2 alphas looked at, 1 alpha: read from the alpha channel ({root / 'alpha' / 'ant.png'})",
            f"{root / 'bg'}: ignored 1 .psd (clip.psd), which are not read (docs/data.md)",
        ],
    )
