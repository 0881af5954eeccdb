"""What tools/benchmark_video.py measures, on clips of a few small frames."""

import re

import numpy as np
import pytest
from PIL import Image
from systems import Red

from data.synthetic.clips import SyntheticClip
from engine.inference import Predictor
from engine.inference.auto_matte import AutoMatte
from engine.inference.clip_matte import ClipMatte
from tools import benchmark_video


def test_measures_by_hand():
    """Alpha is off by 51 (0.2) in one of four pixels of the second frame; the truth of another changes."""
    truths = [np.uint8([[0, 0], [255, 255]]), np.uint8([[0, 255], [255, 255]])]
    alphas = [truths[0], np.uint8([[51, 255], [255, 255]])]
    frames = [(alpha, truth, None) for alpha, truth in zip(alphas, truths, strict=True)]
    dtssd, sad, flicker = benchmark_video.measures(frames, np.ones((2, 2), bool))
    assert dtssd == pytest.approx(100 * (0.2**2 / 4) ** 0.5)
    assert sad == pytest.approx(0.2 / 2 / 1000)
    assert flicker == pytest.approx(1000 * 0.2 / 3)
    band = np.array([[True, False], [True, False]])
    assert benchmark_video.measures(frames, band)[2] == pytest.approx(1000 * 0.2 / 2)


def test_the_edge_of_the_segmentation_wanders_by_what_it_says():
    """Of a straight edge, where the probability passes one half: 1.5 pixels times a field of deviation below 1."""
    alpha = np.zeros((400, 80), np.uint8)
    alpha[:, :40] = 255
    probability = benchmark_video.wandering_mask(alpha, np.random.default_rng(0))
    edges = (probability >= 0.5).sum(axis=1) - 40
    assert abs(edges.mean()) < 0.5
    assert 0.6 < edges.std() < 1.6
    assert 0 <= probability.min() < 1e-6
    assert 1 >= probability.max() > 1 - 1e-6


def test_both_chains_are_asked_about_the_same_frames():
    clip = SyntheticClip((48, 64), 6, 3, "solid", noise=0.01)
    predictor = Predictor(Red())
    plain, watch = benchmark_video.mattes(clip, predictor, AutoMatte)
    steady, clip_watch = benchmark_video.mattes(clip, predictor, ClipMatte)
    assert len(watch.laps) == len(clip_watch.laps) == 6
    assert {"segmentation", "trimap", "matting"} == set(watch.laps[0])
    assert {"motion", "steadying"} <= set(clip_watch.laps[0])
    for (_, truth, _), (_, other, _), frame in zip(plain, steady, clip, strict=True):
        np.testing.assert_array_equal(truth, frame.alpha)
        np.testing.assert_array_equal(other, frame.alpha)


def test_the_table_has_a_row_for_each_clip_and_a_mean_for_each_motion(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_video, "read_system", Red)
    assert benchmark_video.main(["--frames", "5", "--size", "48x64", "--seeds", "3", "4", "--families", "solid"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 3 * 2 + 3
    for motion in benchmark_video.MOTIONS:
        clips = [row for row in rows if row.startswith(f"| {motion} | solid")]
        ratios = [float(re.findall(r"x (\d+\.\d+)", row)[1]) for row in clips]
        (mean,) = (row for row in rows if row.startswith(f"| {motion} | geometric mean"))
        found, most = re.findall(r"x (\d+\.\d+) \(at most (\d+\.\d+)\)", mean)[1]
        assert float(found) == pytest.approx(np.prod(ratios) ** 0.5, abs=0.011)
        assert float(most) == max(ratios)


def test_a_key_frame_everywhere_is_never_wrong_and_some_are_nearly_so(capsys):
    arguments = ["--frames", "5", "--size", "64x80", "--seeds", "3", "--families", "solid", "--key-frames", "1", "4"]
    assert benchmark_video.main(arguments) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["1", "4"] * 3
    for row in rows[::2]:
        assert float(row[3]) == 0  # known wrongly
        assert row[4] == row[5]  # the band is the truth's own


def test_a_whole_clip_goes_from_file_to_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_video, "read_system", Red)
    arguments = ["--chain", str(tmp_path / "run"), "--size", "48x64", "--frames", "10", "--families", "solid"]
    assert benchmark_video.main([*arguments, "--rate", "12", "--share", ".5"]) == 0
    out = capsys.readouterr().out
    assert "10 frames written, 0 failed" in out
    for part in ("reading", "motion", "segmentation", "trimap", "matting", "steadying", "writing"):
        assert re.search(rf"{part} \d+\.\d+, \d+\.\d+", out), part
    assert len(out.split("after each tenth:")[1].splitlines()[0].split()) == 10
    folders = {name: sorted((tmp_path / "run" / name).glob("*.png")) for name in ("truth", "alpha", "unsteadied")}
    assert {len(files) for files in folders.values()} == {10}
    truths, alphas = (
        np.array([np.asarray(Image.open(file)) for file in folders[name]], float) for name in ("truth", "alpha")
    )
    sad = np.abs(alphas - truths).sum(axis=(1, 2)).mean() / 255 / 1000
    assert f"{sad:.3f}" == out.split("| steadied | ")[1].split(" | ")[1]
    assert 0 < (truths > 0).mean() < 0.25  # an object of half the picture's sides


def test_tenths():
    assert benchmark_video.tenths(20) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    assert benchmark_video.tenths(3) == [0, 1, 2]
    assert benchmark_video.tenths(0) == []
