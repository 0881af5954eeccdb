"""tools/benchmark_subjects.py: its scores by hand, and no loss of a subject that the original GrabCut finds."""

import numpy as np
import pytest
from PIL import Image

from data.rendering.library import picture
from data.synthetic.photographs import shipped_photographs
from tools import benchmark_subjects


def test_overlap_by_hand():
    mask, truth = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    mask[:2], truth[1:3] = True, True
    assert benchmark_subjects.overlap(mask, truth) == pytest.approx(4 / 12)
    assert benchmark_subjects.overlap(~mask & mask, truth) == 0


def test_the_interval_of_equal_differences_is_their_value():
    assert benchmark_subjects.interval(np.full(5, 0.25)) == " (+0.250 to +0.250)"
    assert benchmark_subjects.interval(np.zeros(5)) == ""


def test_a_box_is_at_most_a_twentieth_too_wide():
    alpha = np.zeros((300, 400), np.uint8)
    alpha[100:200, 40:240] = 255
    for seed in range(20):
        left, top, right, bottom = benchmark_subjects.drawn_box(np.random.default_rng(seed), alpha)
        assert 30 <= left <= 40 < 240 <= right <= 250
        assert 95 <= top <= 100 < 200 <= bottom <= 205


def composites(seed: int, count: int):
    """Procedural subjects over photographs, with a side of 240 pixels."""
    photographs = shipped_photographs()
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        family = ("2d-solid", "2d-fur", "2d-plant", "2d-hair")[index % 4]
        cut_out = picture(family, (seed, index), 200)
        yield benchmark_subjects.composite(rng, *cut_out, photographs[index % len(photographs)], 240)


@pytest.mark.slow
def test_no_subject_that_the_original_grabcut_finds_is_lost():
    """Small drawn subjects, on which both are equally good on average. Without the check of the sides, one is lost."""
    scores = {name: [] for name in benchmark_subjects.FINDERS}
    for sample in composites(4_000_037, 12):
        arrays, truth = {"image": sample.image}, sample.alpha > 127
        for name, finder in benchmark_subjects.FINDERS.items():
            scores[name].append(benchmark_subjects.overlap(finder(sample.box)(arrays).mask(), truth))
    gains = np.subtract(scores["PointedSubjects"], scores["original GrabCut"])
    assert gains.mean() > -0.01
    assert gains.min() > -0.1


def test_the_table(tmp_path, capsys):
    for folder in ("cut", "backgrounds"):
        (tmp_path / folder).mkdir()
    colours, alpha = picture("2d-solid", (0, 1), 96)
    cut_out = Image.fromarray(np.dstack([colours, alpha]))
    cut_out.resize((150, 150)).save(tmp_path / "cut/a.png")
    Image.fromarray(shipped_photographs()[0]).save(tmp_path / "backgrounds/b.png")
    arguments = ["--foregrounds", str(tmp_path / "cut"), "--backgrounds", str(tmp_path / "backgrounds")]
    benchmark_subjects.main([*arguments, "--images", "2", "--size", "96"])
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("| 2 composites, seed 0 | IoU |")
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["original GrabCut", "PointedSubjects"]
