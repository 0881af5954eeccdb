"""The procedural data set: exact composites, repeatable draws, plausible statistics, and drawings checked against
independent ones."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import skimage.draw
import torch
from tiny import ROOT
from torch.utils.data import DataLoader

from data.images.files import images_by_stem, read_gray, read_rgb
from data.images.mattes import read_trimap
from data.synthetic import (
    SyntheticMatting,
    layers,
    shapes,
    strands,
    textures,
    write_composition1k_layout,
    write_dim_layout,
)
from data.synthetic import dataset as dataset_module
from data.synthetic.dataset import random_trimap
from data.synthetic.families import FAMILIES
from data.synthetic.photographs import shipped_photographs
from data.synthetic.scene import draw_scene
from runtime.errors import InputError


@pytest.fixture(scope="module")
def samples() -> list[dict]:
    dataset = SyntheticMatting(size=96, samples_per_epoch=150, seed=11)
    return [dataset[index] for index in range(len(dataset))]


def digest(sample: dict) -> str:
    content = b"".join(value.numpy().tobytes() for value in sample.values() if torch.is_tensor(value))
    return hashlib.sha256(content + sample["name"].encode()).hexdigest()


def test_sample_has_the_promised_shapes_types_and_ranges(samples):
    channels = {"image": 3, "trimap": 1, "alpha": 1, "fg": 3, "bg": 3}
    for sample in samples:
        assert set(sample) == {*channels, "name"}
        for key, count in channels.items():
            assert sample[key].shape == (count, 96, 96)
            assert sample[key].dtype == torch.float32
            assert sample[key].min() >= 0
            assert sample[key].max() <= 1
        assert set(sample["trimap"].unique().tolist()) <= {0.0, 0.5, 1.0}


def test_image_is_exactly_the_composite_of_the_returned_parts(samples):
    for sample in samples:
        alpha = sample["alpha"]
        assert torch.equal(sample["image"], alpha * sample["fg"] + (1 - alpha) * sample["bg"])


@pytest.mark.parametrize("size", [(45, 131), 400])
def test_composite_is_exact_for_wide_and_for_whole_scenes(size):
    sample = SyntheticMatting(size=size, seed=3)[5]
    assert sample["image"].shape[1:] == (size if isinstance(size, tuple) else (size, size))
    alpha = sample["alpha"]
    assert torch.equal(sample["image"], alpha * sample["fg"] + (1 - alpha) * sample["bg"])


def test_known_regions_of_the_trimap_agree_with_alpha(samples):
    for sample in samples:
        alpha, trimap = sample["alpha"], sample["trimap"]
        assert (alpha[trimap == 1] == 1).all()
        assert (alpha[trimap == 0] == 0).all()


def test_every_sample_has_unknown_and_nearly_all_have_both_known_regions(samples):
    assert all((sample["trimap"] == 0.5).any() for sample in samples)
    complete = [all((sample["trimap"] == value).any() for value in (0, 1)) for sample in samples]
    assert np.mean(complete) > 0.97


def test_statistics_are_those_of_training_crops(samples):
    unknown = np.array([(sample["trimap"] == 0.5).float().mean() for sample in samples])
    assert 0.15 < np.median(unknown) < 0.5
    assert np.mean((unknown > 0.03) & (unknown < 0.9)) > 0.9
    inside = [sample["alpha"][sample["trimap"] == 0.5] for sample in samples]
    fractional = np.array([((alpha > 0.01) & (alpha < 0.99)).float().mean() for alpha in inside])
    assert 0.3 < fractional.mean() < 0.8  # photographs of alphamatting.com: 0.2 to 0.5, at wider trimaps
    assert 0.3 < np.mean([alpha.mean() for alpha in inside]) < 0.7
    distance = [(s["fg"].mean((1, 2)) - s["bg"].mean((1, 2))).abs().max() for s in samples]
    assert np.mean(np.array(distance) > 0.1) > 0.75  # mostly different colours
    assert np.min(distance) < 0.1  # now and then alike


def test_samples_of_other_indices_epochs_and_seeds_differ(samples):
    assert len({digest(sample) for sample in samples}) == len(samples)
    dataset = SyntheticMatting(size=64, samples_per_epoch=4, seed=1)
    other_seed = SyntheticMatting(size=64, samples_per_epoch=4, seed=2)
    assert digest(dataset[0, 2]) == digest(dataset[2])
    assert len({digest(dataset[2]), digest(dataset[1, 2]), digest(other_seed[2])}) == 3
    assert dataset[1, 2]["name"] != dataset[2]["name"]


def test_a_sample_does_not_depend_on_what_was_drawn_before():
    dataset = SyntheticMatting(size=64, samples_per_epoch=8, seed=4)
    late = digest(dataset[7])
    dataset[0], dataset[3, 1]
    assert digest(dataset[7]) == late == digest(SyntheticMatting(size=64, samples_per_epoch=8, seed=4)[7])


def test_workers_do_not_change_the_samples():
    dataset = SyntheticMatting(size=64, samples_per_epoch=6, seed=5)
    loaded = [
        [digest(sample) for sample in DataLoader(dataset, batch_size=None, num_workers=workers)] for workers in (0, 2)
    ]
    assert loaded[0] == loaded[1]


def test_another_process_draws_the_same_and_never_imports_skimage():
    code = (
        "import sys; from data.synthetic import SyntheticMatting\n"
        "dataset = SyntheticMatting(size=64, seed=6)\n"
        "for index in range(3): print(dataset[index]['image'].double().sum().item().hex(), dataset.name(index))\n"
        "assert 'skimage' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=True
    )
    dataset = SyntheticMatting(size=64, seed=6)
    expected = [f"{dataset[i]['image'].double().sum().item().hex()} {dataset.name(i)}" for i in range(3)]
    assert result.stdout.splitlines() == expected


def test_data_set_is_lazy_and_pickles_small(monkeypatch):
    monkeypatch.setattr(dataset_module, "shipped_photographs", lambda: pytest.fail("read before the first sample"))
    dataset = SyntheticMatting(size=64, seed=7)
    content = pickle.dumps(dataset)
    assert len(content) < 2000
    monkeypatch.undo()
    assert digest(pickle.loads(content)[1]) == digest(dataset[1])


def test_textures_alone_need_no_photographs(monkeypatch):
    monkeypatch.setattr(dataset_module, "shipped_photographs", lambda: pytest.fail("read photographs"))
    dataset = SyntheticMatting(size=64, seed=8, backgrounds="textures")
    for index in range(4):
        dataset[index]


def test_missing_photographs_are_a_clear_error(monkeypatch, tmp_path):
    from data.synthetic import photographs

    monkeypatch.setattr(photographs, "shipped_folder", lambda: tmp_path)
    shipped_photographs.cache_clear()
    with pytest.raises(InputError, match=r"astronaut\.png"):
        SyntheticMatting(size=64)[0]


def test_degradation_touches_the_image_only():
    clean = SyntheticMatting(size=64, seed=9)[1]
    noisy = SyntheticMatting(size=64, seed=9, sensor_noise=0.02)[1]
    coded = SyntheticMatting(size=64, seed=9, jpeg_quality=60)[1]
    for key in ("alpha", "trimap", "fg", "bg"):
        assert torch.equal(clean[key], noisy[key])
        assert torch.equal(clean[key], coded[key])
    assert 0.01 < (noisy["image"] - clean["image"]).std() < 0.025
    assert 0 < (coded["image"] - clean["image"]).abs().mean() < 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 8},
        {"size": (64, 64, 3)},
        {"samples_per_epoch": 0},
        {"seed": -1},
        {"trimap_erosion": (9, 3)},
        {"trimap_erosion": (0, 3)},
        {"scene_size": (10, 100)},
        {"backgrounds": "paper"},
        {"sensor_noise": -0.1},
        {"jpeg_quality": 0},
    ],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SyntheticMatting(**settings)


def test_index_beyond_the_end_stops_iteration():
    dataset = SyntheticMatting(size=64, samples_per_epoch=2)
    assert len(list(dataset)) == len(dataset) == 2
    for key in (2, -1, (-1, 0)):
        with pytest.raises(IndexError):
            dataset[key]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_draws_soft_edges_between_opaque_and_empty(family):
    rng = np.random.default_rng(2)
    alphas = [draw_scene(rng, family, (80, 100), (240, 300)).alpha for _ in range(8)]
    values = np.concatenate([alpha.ravel() for alpha in alphas])
    assert (values == 0).mean() > 0.03
    assert (values == 1).mean() > 0.01
    assert ((values > 0.02) & (values < 0.98)).mean() > 0.005


# --- strands ----------------------------------------------------------------------------------------------------


def curve(width: float, count: int = 1) -> strands.Strands:
    """`count` copies of a gently bent, tapered white strand in a 64 x 64 picture."""
    t = np.linspace(0, 1, 80, dtype=np.float32)
    x = np.tile(8 + 45 * t + 3 * np.sin(5 * t), (count, 1))
    y = np.tile(50 - 35 * t + 6 * t * t, (count, 1))
    ones = np.ones((count, 3), np.float32)
    return strands.Strands(x, y, np.full(count, width), strands.taper(80, 0.3), ones, np.ones(80, np.float32))


def supersampled(strand: strands.Strands, factor: int = 32) -> np.ndarray:
    """The same strand as a filled outline on a fine grid, averaged: (64, 64) coverage."""
    x, y = strand.x[0].astype(float), strand.y[0].astype(float)
    along = np.stack([np.gradient(x), np.gradient(y)])
    along /= np.hypot(*along)
    half = strand.widths[0] * strand.taper / 2
    outline_x = np.concatenate([x - half * along[1], (x + half * along[1])[::-1]])
    outline_y = np.concatenate([y + half * along[0], (y - half * along[0])[::-1]])
    fine = np.zeros((64 * factor, 64 * factor))
    rows, columns = skimage.draw.polygon(outline_y * factor - 0.5, outline_x * factor - 0.5, fine.shape)
    fine[rows, columns] = 1
    return fine.reshape(64, factor, 64, factor).mean(axis=(1, 3))


@pytest.mark.parametrize("width", [0.3, 0.7, 1.5, 3.0])
def test_strand_covers_what_a_supersampled_drawing_covers(width):
    strand = curve(width)
    coverage, expected = strands.drawn(strand, 64, 64)[..., 3], supersampled(strand)
    assert coverage.sum() == pytest.approx(expected.sum(), rel=0.03)
    for axis in (0, 1):  # the same place: profiles agree once both are spread by a pixel or so
        profile, expected_profile = coverage.sum(axis), expected.sum(axis)
        assert np.abs(np.cumsum(profile) - np.cumsum(expected_profile)).max() < 0.5 * width + 0.1
    assert np.abs(coverage - expected).mean() < 0.3 * expected.mean()


def test_overlapping_strands_cover_no_more_than_a_pixel_and_keep_their_colour():
    layer = strands.drawn(curve(1.5, count=5), 64, 64)
    assert layer.max() <= 1 + 1e-6
    assert layer[..., 3].max() > 0.99
    np.testing.assert_allclose(layer[..., 0], layer[..., 3], atol=1e-6)  # white: colour equals coverage


def test_strands_outside_the_picture_leave_it_empty():
    strand = curve(1.0)
    away = strands.Strands(
        strand.x + 500, strand.y, *[getattr(strand, n) for n in ("widths", "taper", "colours", "light")]
    )
    assert not strands.drawn(away, 64, 64).any()


def test_grown_strands_have_their_lengths_and_start_at_their_roots():
    rng = np.random.default_rng(0)
    roots, lengths = rng.uniform(0, 50, (20, 2)), rng.uniform(10, 40, 20)
    x, y = strands.grown(rng, roots, rng.uniform(0, 6, 20), lengths, curl=1.0, droop=0.5)
    np.testing.assert_allclose(np.stack([x[:, 0], y[:, 0]], 1), roots, atol=1e-4)
    steps = np.hypot(np.diff(x), np.diff(y))
    np.testing.assert_allclose(steps.sum(axis=1), lengths, rtol=0.1)
    assert steps.max() < 1.1 * strands.PIECE_LENGTH


# --- shapes and layers ------------------------------------------------------------------------------------------


def test_union_of_outlines_covers_its_area():
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    disc = 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    apart = shapes.coverage_of([disc + np.array([30, 30.3]), disc + np.array([80.6, 30])], 64, 120)
    assert apart.sum() == pytest.approx(2 * np.pi * 20**2, rel=0.02)
    same = shapes.coverage_of([disc + np.array([30, 30.3]), disc + np.array([30, 30.3])], 64, 120)
    assert same.sum() == pytest.approx(np.pi * 20**2, rel=0.02)


def test_three_exposures_along_a_row_are_three_thirds():
    kernel = layers.motion_kernel(3, 0.0)
    assert kernel.shape == (5, 5)
    np.testing.assert_allclose(kernel[2], [0, 1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(layers.motion_kernel(3, np.pi / 2), kernel.T, atol=1e-6)


def test_motion_blur_over_a_plain_background_is_the_average_of_moved_photographs():
    background = np.array([0.2, 0.5, 0.9], np.float32)
    coverage = np.zeros((9, 15), np.float32)
    coverage[3:6, 6:9] = 1
    colour = np.zeros((9, 15, 3), np.float32)
    colour[:, :7], colour[:, 7:] = [1, 0, 0], [0, 1, 0.5]  # two colours: dividing out too early would mix them
    layer = layers.layer_of(colour, coverage)
    moved = [np.roll(layer, shift, axis=1) for shift in (-1, 0, 1)]
    average = np.mean([m[..., :3] + (1 - m[..., 3:]) * background for m in moved], axis=0)

    fill = np.zeros((9, 15, 3), np.uint8)
    alpha, foreground = layers.separated(layers.motion_blurred(layer, 3, 0.0), fill)
    composite = alpha[..., None] * foreground + (1 - alpha[..., None]) * background
    np.testing.assert_allclose(composite, average, atol=1e-6)
    np.testing.assert_allclose(alpha[4, 4:11], [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], atol=1e-6)


def test_layer_over_layer_is_porter_duff():
    top = np.array([[[0.25, 0, 0, 0.5]]], np.float32)
    bottom = np.array([[[0, 0.8, 0, 0.8]]], np.float32)
    np.testing.assert_allclose(layers.over(top, bottom)[0, 0], [0.25, 0.4, 0, 0.9], atol=1e-6)


def test_separated_alpha_is_exact_near_its_ends_and_recomposes():
    rng = np.random.default_rng(0)
    coverage = rng.random((20, 20)).astype(np.float32)
    coverage[0], coverage[1] = 0.001, 0.999
    colour = rng.random((20, 20, 3)).astype(np.float32)
    fill = np.full((20, 20, 3), 51, np.uint8)
    alpha, foreground = layers.separated(layers.layer_of(colour, coverage), fill)
    assert (alpha[0] == 0).all()
    assert (alpha[1] == 1).all()
    np.testing.assert_allclose(foreground[0], 0.2, atol=1e-6)
    inside = alpha > 0
    np.testing.assert_allclose(foreground[inside], colour[inside], atol=2e-3)


def test_narrowest_trimap_without_paint_marks_exactly_the_fractional_pixels():
    alpha = np.zeros((60, 60), np.float32)
    alpha[20:40, 20:40] = 1
    alpha[20:22] = 0.4
    trimaps = [random_trimap(np.random.default_rng(seed), alpha, (1, 1)) for seed in range(10)]
    assert any(((trimap == 128) == ((alpha > 0) & (alpha < 1))).all() for trimap in trimaps)
    wide = [np.mean(random_trimap(np.random.default_rng(s), alpha, (1, 15)) == 128) for s in range(30)]
    assert min(wide) < 0.1
    assert max(wide) > 0.15  # narrow ones and wide ones


# --- textures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texture", [function for function, _ in (*textures.SURFACES, *textures.BACKDROPS)])
@pytest.mark.parametrize("shape", [(48, 80), (33, 32)])
def test_textures_fill_any_shape_and_vary(texture, shape):
    image = texture(np.random.default_rng(1), *shape)
    assert image.shape == (*shape, 3)
    assert image.dtype == np.uint8
    assert image.std() > 0.5


def test_fractal_noise_has_a_falling_spectrum():
    noise = textures.fractal_noise(np.random.default_rng(0), 256, 256, persistence=0.6)
    power = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    bands = [power[(frequency >= low) & (frequency < 2 * low)].mean() for low in (1 / 128, 1 / 32, 1 / 8)]
    assert bands[0] > 4 * bands[1] > 16 * bands[2]
    assert noise.mean() == pytest.approx(0.5, abs=0.02)
    assert noise.std() == pytest.approx(0.2, abs=0.03)


def test_mean_colour_moves_to_the_target():
    texture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    target = np.array([0.7, 0.3, 0.5])
    moved = textures.moved_to_mean(texture, target, 1.0).mean(axis=(0, 1)) / 255
    assert np.abs(moved - target).max() < 0.12


# --- files ------------------------------------------------------------------------------------------------------


def test_composition1k_files_agree_among_themselves(tmp_path):
    names = write_composition1k_layout(tmp_path, count=4, size=(48, 64), seed=3)
    merged, trimaps, alphas = (images_by_stem(tmp_path / folder) for folder in ("merged", "trimaps", "alpha_copy"))
    assert sorted(names) == list(merged) == list(trimaps) == list(alphas)
    dataset = SyntheticMatting((48, 64), 4, seed=3)
    for index, name in enumerate(names):
        sample = dataset[index]
        image, trimap, alpha = read_rgb(merged[name]), read_trimap(trimaps[name]), read_gray(alphas[name])
        assert image.shape == (48, 64, 3)
        assert (alpha[trimap == 255] == 255).all()
        assert (alpha[trimap == 0] == 0).all()
        exact = {key: np.rint(sample[key].numpy().transpose(1, 2, 0) * 255) for key in ("alpha", "fg", "bg")}
        weight = exact["alpha"] / 255
        expected = np.rint(weight * exact["fg"] + (1 - weight) * exact["bg"])
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(alpha, exact["alpha"][..., 0])
        assert np.abs(image - sample["image"].numpy().transpose(1, 2, 0) * 255).max() < 2


def test_dim_files_pair_foregrounds_with_alphas(tmp_path):
    names = write_dim_layout(tmp_path, count=3, size=40, seed=1)
    assert sorted(names) == list(images_by_stem(tmp_path / "fg")) == list(images_by_stem(tmp_path / "alpha"))
    assert len(images_by_stem(tmp_path / "bg")) == 3
    alpha = read_gray(tmp_path / "alpha" / f"{names[0]}.png")
    assert alpha.shape == (40, 40)
    assert alpha.min() == 0
    assert alpha.max() == 255


def test_writing_again_repeats_the_set_and_spares_another(tmp_path):
    names = write_composition1k_layout(tmp_path, count=2, size=40, seed=1)
    first = (tmp_path / "merged" / f"{names[0]}.png").read_bytes()
    write_composition1k_layout(tmp_path, count=2, size=40, seed=1)
    assert (tmp_path / "merged" / f"{names[0]}.png").read_bytes() == first
    (tmp_path / "merged" / "holiday.png").write_bytes(first)
    with pytest.raises(InputError, match=r"holiday\.png"):
        write_composition1k_layout(tmp_path, count=2, size=40, seed=1)


def test_tool_writes_a_set_and_reports_a_bad_size_in_one_line(tmp_path):
    command = [sys.executable, "tools/make_synthetic.py", "--output", str(tmp_path), "--count", "1", "--size"]
    good = subprocess.run([*command, "40x48"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert good.returncode == 0, good.stderr
    assert read_rgb(next((tmp_path / "merged").glob("*.png"))).shape == (40, 48, 3)
    bad = subprocess.run([*command, "big"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: --size")
    assert len(bad.stderr.splitlines()) == 1
