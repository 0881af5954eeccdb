"""Evaluations of tiny sets with scores worked out by hand: options, their defaults, failures and interruptions."""

import hashlib
import math

import numpy as np
import pytest
from PIL import Image

import metrics.folders
from data.images.files import write_png
from metrics import score_folders
from metrics.folders import Evaluation
from runtime.errors import InputError

KINDS = ("pred", "alpha", "trimap")


@pytest.fixture
def root(tmp_path):
    """Images a and b of 2 x 5 pixels: 100 predicted for 151, a difference of 0.2, unknown in the left 2 columns."""
    trimap = np.repeat(np.uint8([[128, 128, 0, 0, 255]]), 2, axis=0)
    for name in ("clip/a", "clip/b"):
        for kind, picture in zip(KINDS, (np.full((2, 5), 100), np.full((2, 5), 151), trimap), strict=True):
            write_png(tmp_path / kind / f"{name}.png", picture.astype(np.uint8))
    return tmp_path


def score(root, **options):
    return score_folders(*(root / kind for kind in KINDS), **{"num_workers": 0, **options})


def set_levels(root, name, *levels):
    """Write the trimap of an image with a level for each column."""
    write_png(root / "trimap" / f"{name}.png", np.repeat(np.uint8([levels]), 2, axis=0))


def in_reverse(cases, work, num_workers):
    """The outcomes of `metrics.pool.outcomes` in another order of arrival."""
    yield from ((name, work(cases[name])) for name in sorted(cases, reverse=True))


def test_the_defaults_score_the_four_metrics_of_papers_in_silence(root, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    found = score(root)
    assert found.metrics == ("sad", "mse", "grad", "conn")
    assert list(found.scores["clip/a"]) == ["sad", "mse", "grad", "conn", "pixels"]
    assert found.mean()["sad"] == pytest.approx(4 * 0.2 / 1000)
    assert found.mean()["mse"] == pytest.approx(0.2**2)
    assert (found.expected, found.missing, found.failed, found.remarks, found.without_unknown) == (2, [], {}, [], [])
    assert (found.allow_missing, found.quantise_trimaps, found.interrupted, found.sequences) == (False,) * 3 + (None,)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("is_deep", [False, True])
def test_the_data_of_an_image_are_hashed_row_by_row_with_the_lower_byte_first(root, is_deep):
    for kind in ("pred", "alpha"):
        values = np.full((2, 5), 0x1234 if is_deep else 151, np.uint16 if is_deep else np.uint8)
        Image.fromarray(values).save(root / kind / "clip" / "a.png")
    truth = hashlib.sha256((b"\x34\x12" if is_deep else b"\x97") * 10).hexdigest()
    trimap = hashlib.sha256(b"\x80\x80\x00\x00\xff" * 2).hexdigest()
    assert score(root).items["clip/a"] == (2, 5, truth, trimap)
    assert score(root, region="whole").items["clip/a"] == (2, 5, truth, None)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal(root, capsys, monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    score(root, progress=True)
    shown = capsys.readouterr().err
    assert ("scoring: " in shown) == ("| 2/2 [" in shown) == ("image/s]" in shown) == is_terminal


def test_other_metrics_and_the_whole_region_are_scored_on_request(root):
    found = score(root, metrics=["mad", "psnr", "mad"], region="whole")
    assert found.scores["clip/b"] == pytest.approx({"mad": 0.2, "psnr": 20 * math.log10(5), "pixels": 10})


def test_trimaps_of_other_values_fail_unless_they_are_quantised(root):
    set_levels(root, "clip/b", 127, 127, 0, 0, 255)
    found = score(root, sequences=True)
    assert (list(found.scores), list(found.failed)) == (["clip/a"], ["clip/b"])
    assert math.isnan(found.mean()["sad"])
    assert all(map(math.isnan, found.sequence_mean().values()))
    found = score(root, sequences=True, quantise_trimaps=True)
    assert found.quantise_trimaps
    assert found.mean()["mse"] == pytest.approx(0.2**2)
    assert found.sequence_mean() == {"dtssd": 0, "messddt": 0}


def test_images_without_an_unknown_pixel_are_listed(root):
    set_levels(root, "clip/b", 0, 0, 0, 0, 255)
    assert score(root).without_unknown == ["clip/b"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"region": "Unknown"}, "^region: expected one of unknown, whole, got 'Unknown'"),
        ({"metrics": ["sad", "sadd"]}, "^metrics: .*got 'sadd'"),
        ({"metrics": []}, "^metrics: .*got None"),
        ({"num_workers": -1}, "number of workers: expected 0 or more, got -1"),
    ],
)
def test_options_without_a_meaning_are_refused(root, options, text):
    with pytest.raises(InputError, match=text):
        score(root, **options)


def test_a_mean_over_clips_needs_every_image_and_every_clip():
    clips = {"a": {"dtssd": 1.0, "messddt": 3.0, "pairs": 2}, "b": {"dtssd": 2.0, "messddt": 5.0, "pairs": 1}}
    assert Evaluation("whole", 5, sequences=clips).sequence_mean() == {"dtssd": 1.5, "messddt": 4.0}
    for without in ({"failed": {"a/0": "damaged"}}, {"failed_clips": {"c": "of two sizes"}}, {"sequences": None}):
        means = Evaluation("whole", 5, **{"sequences": clips, **without}).sequence_mean()
        assert all(map(math.isnan, means.values()))


def test_results_and_remarks_are_in_the_order_of_names_however_they_arrive(root, monkeypatch):
    for name in ("clip/a", "clip/b"):
        set_levels(root, name, 1, 1, 0, 0, 2)  # labels, which are read with a remark
    monkeypatch.setattr(metrics.folders, "outcomes", in_reverse)
    found = score(root, quantise_trimaps=True)
    assert list(found.scores) == list(found.items) == ["clip/a", "clip/b"]
    assert [remark.path for remark in found.remarks] == [str(root / "trimap" / f"clip/{name}.png") for name in "ab"]


def test_an_interruption_keeps_what_was_scored_and_names_the_rest(root, monkeypatch):
    def interrupted(cases, work, num_workers):
        yield next(in_reverse(cases, work, num_workers))
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics.folders, "outcomes", interrupted)
    found = score(root, sequences=True)
    assert found.interrupted
    assert list(found.scores) == ["clip/b"]
    assert found.failed == {"clip/a": "not scored: interrupted"}
    assert found.sequences is None


def test_an_interruption_of_the_clips_keeps_the_images(root, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics.folders, "score_clips", interrupted)
    found = score(root, sequences=True)
    assert found.interrupted
    assert len(found.scores) == 2
    assert (found.sequences, found.failed_clips) == ({}, {"(all)": "not scored: interrupted"})


def test_a_missing_prediction_is_a_gap_between_clips_only_if_it_is_allowed(root):
    (root / "pred" / "clip" / "b.png").unlink()
    with pytest.raises(InputError, match="clip/b"):
        score(root)
    found = score(root, allow_missing=True, sequences=True)
    assert (found.allow_missing, found.missing, found.expected) == (True, ["clip/b"], 2)
    assert found.sequences["clip"]["pairs"] == 0
