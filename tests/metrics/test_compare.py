"""Comparing reports: statistics against scipy and by hand, refusals, tables, and the whole way from images."""

import copy
import hashlib
import json
import math
import re
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from tiny import ROOT

import evaluation
from metrics.comparison import bootstrap_interval as cluster_interval
from metrics.comparison import compare, most_changed, paired_difference, sign_test
from metrics.reports import saved
from metrics.reports.results_table import escape_latex, escape_markdown, latex_table, markdown_table
from metrics.reports.saved import read_report
from runtime.errors import InputError
from tools import compare as tool

GOLDEN_DIR = ROOT / "tests" / "goldens" / "metrics"
METRICS = ("sad", "mse", "grad", "conn")

# Worked by hand: B - A is -1, +2, 0, -3, so the mean is -0.5, two images are better, one is worse, one is equal.
SAD_A = {"clip1/0001": 5.0, "clip1/0002": 1.0, "clip2/0001": 7.0, "lion": 9.0}
SAD_B = {"clip1/0001": 4.0, "clip1/0002": 3.0, "clip2/0001": 7.0, "lion": 6.0}


def report(sad, region="unknown", **more):
    """A report as evaluation.py writes it, every metric following SAD; `more` replaces or adds fields."""
    images = {
        name: {"sad": value, "mse": value / 1000, "grad": 2 * value, "conn": 3 * value, "pixels": 100}
        for name, value in sad.items()
    }
    trimap = "b" * 64 if region == "unknown" else None
    record = {
        "format_version": 2,
        "mean": {"sad": None, "mse": None, "grad": None, "conn": None},  # recomputed from the images
        "n": len(images),
        "expected": len(images),
        "region": region,
        "units": {"sad": "thousands", "mse": "mean", "grad": "thousands", "conn": "thousands"},
        "settings": {"allow_missing": False, "quantise_trimaps": False},
        "fingerprint": "f" * 64,
        "missing": [],
        "failed": {},
        "without_unknown": [],
        "mean_where_defined": {},
        "images": images,
        "set": {
            name: {
                "height": 20,
                "width": 30,
                "truth": hashlib.sha256(name.encode("utf-8", "replace")).hexdigest(),
                "trimap": trimap,
            }
            for name in sad
        },
    }
    return {**record, **more}


@pytest.fixture
def save(tmp_path):
    """Write records under a temporary folder and return their paths as text."""

    def write(**records):
        files = []
        for name, record in records.items():
            file = tmp_path / f"{name}.json"
            file.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
            files.append(str(file))
        return files

    return write


def refused(*arguments):
    """Run the command, which must end in a one-line InputError, and return its text."""
    with pytest.raises(InputError) as error:
        tool.main([str(argument) for argument in arguments])
    assert "\n" not in str(error.value)
    return str(error.value)


def compared(capsys, *arguments):
    """Run the command, which must succeed, and return what it printed: (stdout, stderr)."""
    assert tool.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr()


# ---- the bootstrap


def bootstrap_interval(differences, resamples, confidence, generator):
    return cluster_interval(differences, np.arange(len(differences)), resamples, confidence, generator)


def skewed(n, seed=1):
    return np.random.default_rng(seed).lognormal(size=n) - 1.3


@pytest.mark.parametrize("n", [2, 3, 50, 1000])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_interval_equals_scipy_on_the_same_draws(n, confidence):
    differences = skewed(n)
    ours = bootstrap_interval(differences, 3000, confidence, np.random.default_rng(5))
    options = {"n_resamples": 3000, "confidence_level": confidence, "method": "percentile"}
    theirs = stats.bootstrap(
        (differences,), np.mean, **options, random_state=np.random.default_rng(5)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), rel=1e-12)


def test_interval_agrees_with_scipy_on_the_pairs_and_other_draws():
    before = np.random.default_rng(2).lognormal(3, 1, 300)
    after = before + skewed(300)

    def mean_difference(after, before, axis):
        return after.mean(axis) - before.mean(axis)

    theirs = stats.bootstrap(
        (after, before), mean_difference, paired=True, method="percentile", n_resamples=20_000, random_state=8
    ).confidence_interval
    ours = bootstrap_interval(after - before, 20_000, 0.95, np.random.default_rng(0))
    # The standard error of a 2.5 % quantile of 20000 normal draws is 0.019 of their deviation; here both ends vary.
    spread = (after - before).std() / math.sqrt(300)
    assert ours == pytest.approx(tuple(theirs), abs=5 * math.sqrt(2) * 0.019 * spread)


@pytest.mark.parametrize("draws_at_once", [1, 7 * 41, 10**9])
def test_interval_does_not_depend_on_how_many_draws_are_held_at_once(monkeypatch, draws_at_once):
    differences = skewed(41)
    generator = np.random.default_rng(3)
    means = [np.mean([differences[i] for i in generator.integers(41, size=41)]) for _ in range(500)]
    monkeypatch.setattr("metrics.comparison.DRAWS_AT_ONCE", draws_at_once)
    interval = bootstrap_interval(differences, 500, 0.9, np.random.default_rng(3))
    assert interval == pytest.approx(np.percentile(means, [5, 95]), rel=1e-12)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        low, high = bootstrap_interval(generator.normal(0.3, 1, 100), 500, 0.9, generator)
        covered += low <= 0.3 <= high
    assert 0.86 < covered / 600 < 0.94  # three standard errors are 0.037


def test_interval_draws_the_images_of_a_group_together():
    differences, groups = skewed(30), np.array(list("abcab") * 6)
    generator = np.random.default_rng(3)
    means = []
    for _ in range(400):
        drawn = ["abc"[i] for i in generator.integers(3, size=3)]
        means.append(np.concatenate([differences[groups == label] for label in drawn]).mean())
    interval = cluster_interval(differences, groups, 400, 0.9, np.random.default_rng(3))
    assert interval == pytest.approx(np.percentile(means, [5, 95]), rel=1e-12)


def test_interval_of_copies_is_as_wide_as_of_the_originals_only_when_they_are_grouped():
    originals = skewed(50)
    copies, groups = np.repeat(originals, 20), np.repeat(np.arange(50), 20)
    one, grouped, apart = (
        np.ptp(cluster_interval(values, labels, 1000, 0.95, np.random.default_rng(0)))
        for values, labels in ((originals, np.arange(50)), (copies, groups), (copies, np.arange(1000)))
    )
    assert grouped == pytest.approx(one)
    assert apart == pytest.approx(one / math.sqrt(20), rel=0.15)


def test_interval_of_one_group_is_undefined():
    assert np.isnan(cluster_interval(skewed(9), np.zeros(9), 100, 0.95, np.random.default_rng(0))).all()


def test_interval_of_constant_differences_is_that_constant_and_of_one_image_is_undefined():
    assert bootstrap_interval(np.full(9, -2.5), 100, 0.95, np.random.default_rng(0)) == (-2.5, -2.5)
    assert np.isnan(bootstrap_interval(np.array([1.0]), 100, 0.95, np.random.default_rng(0))).all()


# ---- the sign test


@pytest.mark.parametrize(
    ("wins", "losses"), [(0, 0), (1, 0), (3, 3), (7, 2), (2, 7), (530, 470), (900, 100), (4000, 4100)]
)
def test_sign_test_equals_the_count_of_tosses(wins, losses):
    tosses = wins + losses
    as_uneven = 2 * sum(math.comb(tosses, heads) for heads in range(min(wins, losses) + 1))
    assert sign_test(wins, losses) == pytest.approx(float(min(1, Fraction(as_uneven, 2**tosses))), rel=1e-9)


def test_sign_test_by_hand():
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 4) == pytest.approx(2 * (1 + 5) / 32)


# ---- one metric, two methods


def difference_of(metric, before, after):
    before, after = np.array(before, float), np.array(after, float)
    interval = bootstrap_interval(after - before, 1000, 0.95, np.random.default_rng(0))
    return paired_difference(metric, before, after, [], interval)


def test_difference_worked_by_hand():
    result = difference_of("sad", list(SAD_A.values()), list(SAD_B.values()))
    assert (result.baseline_mean, result.mean, result.difference) == (5.5, 5.0, -0.5)
    assert result.relative == pytest.approx(-100 / 11)
    assert (result.wins, result.losses, result.ties, result.images) == (2, 1, 1, 4)
    assert result.p_value == 1.0  # two to one is as even as three coins can fall
    assert -3 <= result.low < result.difference < result.high <= 2


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_higher_psnr_and_ssim_win(metric):
    result = difference_of(metric, [0.5, 0.6, 0.7], [0.6, 0.7, 0.6])
    assert (result.wins, result.losses, result.ties) == (2, 1, 0)
    improved, worsened = most_changed(metric, "abc", np.array([0.5, 0.6, 0.7]), np.array([0.7, 0.7, 0.6]), 10)
    assert [change.name for change in improved] == ["a", "b"]
    assert worsened == [("c", 0.7, 0.6)]


def test_relative_change_of_a_zero_baseline_is_undefined():
    assert math.isnan(difference_of("sad", [0, 0], [1, 0]).relative)


def test_images_undefined_in_either_are_left_out_of_that_metric_alone():
    a = {"x": {"sad": 1.0, "mse": math.nan}, "y": {"sad": 2.0, "mse": 0.2}, "z": {"sad": 3.0, "mse": 0.3}}
    b = {"x": {"sad": 1.5, "mse": 0.1}, "y": {"sad": 2.0, "mse": 0.1}, "z": {"sad": 2.0, "mse": math.nan}}
    sad, mse = compare(a, b, ["sad", "mse"], resamples=100).differences
    assert (sad.images, sad.left_out, sad.difference) == (3, [], pytest.approx(-0.5 / 3))
    assert (mse.images, mse.left_out, mse.difference) == (1, ["x", "z"], pytest.approx(-0.1))
    assert math.isnan(mse.low)


def test_a_metric_defined_nowhere_is_all_undefined():
    a = {"x": {"mse": math.nan}, "y": {"mse": 0.2}}
    b = {"x": {"mse": 0.2}, "y": {"mse": math.nan}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy warns about the mean of nothing
        (mse,) = compare(a, b, ["mse"], by="mse").differences
    assert (mse.images, mse.wins, mse.losses, mse.ties, mse.p_value) == (0, 0, 0, 0, 1.0)
    assert np.isnan([mse.baseline_mean, mse.mean, mse.difference, mse.low, mse.high, mse.relative]).all()


def test_images_are_paired_by_name_not_by_order():
    a = {"x": {"sad": 1.0}, "y": {"sad": 10.0}}
    b = {"y": {"sad": 11.0}, "x": {"sad": 1.0}}
    result = compare(a, b, ["sad"], resamples=100)
    assert (result.differences[0].losses, result.differences[0].ties) == (1, 1)
    assert result.worsened == [("y", 10.0, 11.0)]


def test_images_that_changed_most_come_first_and_equal_ones_never():
    names = ["a", "b", "c", "d", "e"]
    before, after = np.array([5.0, 5, 5, 5, 5]), np.array([1.0, 5, 9, 3, 6])
    assert most_changed("sad", names, before, after, 10) == ([("a", 5, 1), ("d", 5, 3)], [("c", 5, 9), ("e", 5, 6)])
    assert most_changed("sad", names, before, after, 1) == ([("a", 5, 1)], [("c", 5, 9)])
    assert most_changed("sad", names, before, after, 0) == ([], [])


def test_equal_changes_stay_in_the_order_of_names():
    names = [f"{number:03}" for number in range(100)]
    before, after = np.full(100, 5.0), np.tile([4.0, 6.0, 3.0, 7.0], 25)
    improved, worsened = most_changed("sad", names, before, after, 50)
    assert [change.name for change in improved] == [*names[2::4], *names[0::4]]
    assert [change.name for change in worsened] == [*names[3::4], *names[1::4]]


def test_a_metrics_interval_depends_on_the_seed_but_not_on_the_other_metrics():
    a = {str(i): {"sad": 0.0, "conn": 0.0} for i in range(30)}
    b = {str(i): {"sad": value, "conn": value} for i, value in enumerate(skewed(30))}
    both = compare(a, b, ["sad", "conn"], seed=4).differences
    assert [compare(a, b, [metric], by=metric, seed=4).differences[0] for metric in ("sad", "conn")] == both
    assert compare(a, b, ["sad"], seed=5).differences[0].low != both[0].low


def test_ten_changes_and_an_interval_of_95_percent_from_10000_draws_are_the_default():
    a = {f"{i:02}": {"sad": 10.0} for i in range(12)}
    b = {f"{i:02}": {"sad": 9.0 - i**0.5} for i in range(12)}
    result = compare(a, b, ["sad"])
    assert [change.name for change in result.improved] == [f"{i:02}" for i in range(11, 1, -1)]
    drawn = np.random.default_rng(0).integers(12, size=(10_000, 12))
    low, high = np.quantile((-1 - drawn**0.5).mean(axis=1), [0.025, 0.975])
    assert (result.differences[0].low, result.differences[0].high) == pytest.approx((low, high), rel=1e-12)


# ---- the command


def test_terminal_text_holds_means_differences_and_changed_images(save, capsys):
    text, warnings = compared(capsys, *save(A=report(SAD_A), B=report(SAD_B)))
    lines = text.splitlines()
    assert lines[0] == "4 images, region unknown, set ffffffffffff; baseline: A"
    assert lines[2].split() == ["method", "SAD", "(10^3)", "MSE", "(10^-3)", "Grad", "(10^3)", "Conn", "(10^3)"]
    assert lines[3].split() == ["A", "5.5000", "5.5000", "11.0000", "16.5000"]
    assert lines[4].split() == ["B", "5.0000", "5.0000", "10.0000", "15.0000"]
    assert lines[6] == "B minus A: mean difference, 95 % interval from 10000 resamples of the images (seed 0)"
    sad = next(line for line in lines[8:] if line.startswith("SAD"))
    low, high = bootstrap_interval(np.array([-1.0, 2, 0, -3]), 10_000, 0.95, np.random.default_rng(0))
    expected = f"SAD (10^3) -0.5000 [{low:+.4f}, {high:+.4f}] -9.09 % 2 1 1 p = 1"
    assert sad.split() == expected.split()
    assert text.count("difference") == 4  # the head, the column, and both lists
    improved = text[text.index("most improved by SAD") : text.index("most worsened")].splitlines()
    assert [line.split() for line in improved[2:4]] == [
        ["lion", "9.0000", "6.0000", "-3.0000"],
        ["clip1/0001", "5.0000", "4.0000", "-1.0000"],
    ]
    assert text.splitlines()[-1].split() == ["clip1/0002", "1.0000", "3.0000", "+2.0000"]
    table = lines[7:12]
    assert len({line.index("p = ") for line in table[1:]}) == 1  # columns are aligned
    assert "4 images are few" in warnings


def test_the_baseline_may_be_any_report_by_name_or_file(save, capsys):
    files = save(A=report(SAD_A), B=report(SAD_B), C=report(SAD_A))
    for baseline in ("B", files[1]):
        text, _ = compared(capsys, *files, "--baseline", baseline)
        assert "A minus B" in text
        assert "C minus B" in text
        assert "B minus" not in text
    text = refused(*files, "--baseline", "D")
    assert text == "--baseline: expected one of A, B, C, got D"


def test_the_same_seed_prints_the_same_and_another_does_not(save, capsys):
    names = [str(i) for i in range(40)]
    files = save(A=report(dict.fromkeys(names, 50.0)), B=report(dict(zip(names, 50.0 + skewed(40), strict=True))))
    first, again, other = (compared(capsys, *files, "--seed", seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first.replace("(seed 1)", "(seed 2)") != other


def test_changed_images_may_be_ranked_by_another_metric(save, capsys):
    files = save(A=report(SAD_A), B=report(SAD_B))
    text, _ = compared(capsys, *files, "--by", "mse", "--top", "1")
    assert "B: most improved by MSE (10^-3)" in text
    assert text.splitlines()[-1].split() == ["clip1/0002", "1.0000", "3.0000", "+2.0000"]
    assert text.count("clip") == 1
    only_sad = report(SAD_B)
    for values in only_sad["images"].values():
        for metric in ("mse", "grad", "conn"):
            del values[metric]
    files = save(A=report(SAD_A), B=only_sad)
    assert refused(*files, "--by", "mse") == "--by: expected one of sad, which all reports have, got mse"
    text, _ = compared(capsys, *files, "--markdown", "-")
    assert "| B | **5.00** | – | – | – |" in text


def test_undefined_images_are_counted_and_named(save, capsys):
    a, b = report(SAD_A), report(SAD_B)
    a["images"]["lion"]["mse"] = None
    text, warnings = compared(capsys, *save(A=a, B=b), "--markdown", "-")
    assert "B: MSE (10^-3) is undefined on 1 of 4 images (lion) there or in A; the difference is over 3" in warnings
    assert "| A | 5.50 | – | 11.00 | 16.50 |" in text
    mse = next(line for line in text.splitlines() if line.startswith("MSE")).split()
    assert mse[2] == "+0.3333"  # (-1 + 2 + 0) / 3


def test_truths_may_be_drawn_instead_of_images(save, capsys, tmp_path):
    a, b = report(SAD_A), report(SAD_B)
    for record in (a, b):
        for name, truth in zip(SAD_A, "acac", strict=True):
            record["set"][name]["truth"] = truth * 64
    files = save(A=a, B=b)
    _, warnings = compared(capsys, *files)
    assert "4 images share 2 truths, so they are not independent: see --resample truths" in warnings
    text, warnings = compared(capsys, *files, "--resample", "truths", "--json", tmp_path / "c.json")
    assert "resamples of the truths" in text
    assert "2 truths are few" in warnings
    assert "independent" not in warnings
    record = json.loads((tmp_path / "c.json").read_text())
    sad = record["against"]["B"]["metrics"]["sad"]
    assert (record["resample"], sad["low"], sad["difference"], sad["high"]) == ("truths", -0.5, -0.5, -0.5)
    # Truth a... has changes -1 and 0, truth c... has +2 and -3: the mean is -0.5 whichever are drawn.


def test_missing_predictions_are_said(save, capsys):
    a = report(SAD_A, missing=["x", "y"], expected=6)
    files = save(A=a, B=report(SAD_B))
    _, warnings = compared(capsys, *files)
    assert f"{files[0]}: 4 of 6 images were scored" in warnings


def test_json_holds_the_same_numbers_and_is_strict(save, capsys, tmp_path):
    files = save(A=report(SAD_A), B=report(SAD_B))
    compared(capsys, *files, "--json", tmp_path / "new" / "c.json", "--confidence", "0.9", "--seed", "3")
    record = json.loads((tmp_path / "new" / "c.json").read_text(), parse_constant=pytest.fail)
    assert record["methods"]["A"] == {"file": files[0], "mean": {"sad": 5.5, "mse": 0.0055, "grad": 11, "conn": 16.5}}
    assert (record["n"], record["confidence"], record["seed"], record["baseline"]) == (4, 0.9, 3, "A")
    assert record["fingerprint"] == "f" * 64
    result = record["against"]["B"]
    sad = result["metrics"]["sad"]
    interval = bootstrap_interval(np.array([-1.0, 2, 0, -3]), 10_000, 0.9, np.random.default_rng(3))
    assert (sad["low"], sad["high"]) == pytest.approx(interval)
    assert (sad["difference"], sad["wins"], sad["losses"], sad["ties"]) == (-0.5, 2, 1, 1)
    assert result["improved"][0] == {"name": "lion", "baseline": 9.0, "value": 6.0}
    assert result["metrics"]["mse"]["difference"] == pytest.approx(-0.0005)  # the report's unit, not the table's


def test_default_names_are_told_apart_by_their_folders():
    def names(*files):
        return tool.default_names([Path(file) for file in files])

    assert names("a/vit.s.json", "b/ours.json") == ["vit.s", "ours"]
    assert names("runs/a/scores.json", "runs/b/scores.json", "c.json") == ["a/scores", "b/scores", "c"]
    assert names("a/x/scores.json", "b/x/scores.json") == ["a/x/scores", "b/x/scores"]
    assert names("a.json", "a.txt") == ["a.json", "a.txt"]


# ---- reports of different data


def changed(path, value, record=None):
    """A copy of a report with the value at `path` (keys) replaced, or removed where it is ...; and its fingerprint."""
    record = copy.deepcopy(report(SAD_B) if record is None else record)
    *parents, key = path
    holder = record
    for parent in parents:
        holder = holder[parent]
    if value is ...:
        del holder[key]
    else:
        holder[key] = value
    return record


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("height", 21, "1 of another size (lion)"),
        ("truth", "c" * 64, "1 with another truth (lion)"),
        ("trimap", "c" * 64, "1 with another trimap (lion)"),
    ],
)
def test_reports_of_other_truths_trimaps_or_sizes_are_refused_by_image(save, field, value, said):
    other = changed(["set", "lion", field], value) | {"fingerprint": "e" * 64}
    a, b = save(A=report(SAD_A), B=other)
    assert refused(a, b) == (
        f"{a} and {b} are not of the same data: {said}; score both against the same truths and trimaps"
    )


def test_reports_of_other_images_are_refused_naming_the_first_few(save):
    first = report({f"a{i}": 1.0 for i in range(8)} | {"both": 1.0})
    second = report({"both": 1.0, "b": 2.0}, fingerprint="e" * 64)
    a, b = save(A=first, B=second)
    text = refused(a, b)
    assert f"8 only in {a} (a0, a1, a2, a3, a4 and 3 more); 1 only in {b} (b)" in text
    assert "both" not in text.split("; score")[0]


def test_the_third_report_is_checked_too(save):
    a, b, c = save(A=report(SAD_A), B=report(SAD_B), C=report({"lion": 1.0}, fingerprint="e" * 64))
    assert refused(a, b, c).startswith(f"{a} and {c} are not of the same data: 3 only in {a}")


def test_regions_are_never_mixed(save):
    a, b = save(A=report(SAD_A), B=report(SAD_B, region="whole"))
    assert refused(a, b) == (
        f"{a} scores region unknown, {b} scores region whole: such numbers must not be compared; score both with the "
        "same --region"
    )


def test_a_report_whose_fingerprint_was_edited_is_refused(save):
    tampered = changed(["set", "lion", "truth"], "c" * 64)
    assert "the fingerprints do not match the images they list" in refused(*save(A=report(SAD_A), B=tampered))
    assert "the fingerprints do not match" in refused(*save(A=report(SAD_A), B=report(SAD_B, fingerprint="e" * 64)))


# ---- bad input


def test_a_report_with_failed_images_is_refused_by_name(save):
    failed = report(SAD_B, failed={"owl": "owl.png: not a readable image", "cat": "..."}, expected=6)
    a, b = save(A=report(SAD_A), B=failed)
    assert refused(a, b) == (
        f"{b}: 2 images could not be scored (cat, owl), so it has no mean; repair them and score again"
    )


def test_a_report_of_version_1_is_to_be_scored_again(save):
    old = report(SAD_B, format_version=1)
    del old["fingerprint"], old["set"]
    a, b = save(A=report(SAD_A), B=old)
    text = refused(a, b)
    assert text.startswith(f"{b}: a report of format version 1, without the fingerprint")
    assert "score it again" in text
    assert "format version 3" in refused(*save(A=report(SAD_A), B=report(SAD_B, format_version=3)))


NESTED = '{"format_version": 2, "images": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("not JSON", "not valid JSON"),
        ('{"format_version": 2', "not valid JSON"),
        ("[1, 2]", "found a JSON list"),
        ("{}", "no format_version or no images"),
        ('{"format_version": true, "images": {}}', "no format_version"),
        ('{"format_version": 2, "images": {}, "mean": NaN}', "NaN is not JSON"),
        ('{"format_version": 2, "images": {}, "images": {}}', "the key 'images' occurs twice"),
        ('{"format_version": 2, "images": {}, "n": ' + "9" * 10_000 + "}", "not valid JSON"),
        (NESTED, "nested too deeply"),
        ('{"format_version": 2, "images": {}}', "no 'failed'"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_no_report_is_refused(save, content, said):
    a, b = save(A=report(SAD_A), B=content)
    text = refused(a, b)
    assert text.startswith(f"{b}: ")
    assert said in text


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["region"], "known", "region is 'known'"),
        (["region"], ["unknown"], "region is ['unknown']"),
        (["fingerprint"], "f" * 63, "fingerprint is not 64"),
        (["fingerprint"], "F" * 64, "fingerprint is not 64"),
        (["fingerprint"], "f" * 64 + "\n", "fingerprint is not 64"),
        (["fingerprint"], None, "fingerprint is not 64"),
        (["fingerprint"], ..., "no 'fingerprint'"),
        (["images"], [], "images is of type list"),
        (["images"], {}, "no image was scored"),
        (["images", "lion"], None, "the scores of lion are null"),
        (["images", "lion", "sad"], "9", "sad of lion is of type str"),
        (["images", "lion", "sad"], True, "sad of lion is of type bool"),
        (["images", "lion", "sad"], 10**400, "sad of lion is too large"),
        (["images", "lion", "sad"], 1e308, "sad of lion is too large"),
        (["images", "lion", "sad"], -5.0, "sad of lion is negative"),
        (["images", "lion", "pixels"], "a", "pixels is"),
        (["missing"], ["lion"], "both scored and missing"),
        (["images", "lion", "sad"], ..., "lion has other metrics than the first image"),
        (["images", "lion", "lpips"], 1.0, "lion has other metrics than the first image"),
        (["images", "clip1/0001", "lpips"], 1.0, "metrics that this release does not know (lpips)"),
        (["set"], None, "set is null"),
        (["set", "lion"], ..., "images and set do not list the same names (lion)"),
        (["set", "lion"], 3, "the set's entry of lion is of type int"),
        (["set", "lion", "width"], 0, "the width of lion is 0"),
        (["set", "lion", "width"], 1.5, "width is of type float"),
        (["set", "lion", "truth"], "a", "truth of lion is not 64"),
        (["set", "lion", "trimap"], None, "trimap of lion is not 64"),
        (["set", "lion", "trimap"], ..., "no 'trimap'"),
        (["n"], 5, "n and expected do not match 4 scored and 0 missing images"),
        (["expected"], 5, "n and expected do not match"),
        (["expected"], "4", "expected is of type str"),
        (["missing"], [3], "missing contains something other than names"),
        (["failed"], [], "failed is of type list"),
    ],
    ids=str,
)
def test_a_report_with_a_wrong_value_is_refused_naming_it(save, path, value, said):
    a, b = save(A=report(SAD_A), B=changed(path, value))
    text = refused(a, b)
    assert text.startswith(f"{b}: ")
    assert said in text
    assert "score it again" in text


def test_infinite_numbers_and_metricless_images_are_refused(save):
    a, b = save(A=report(SAD_A), B=json.dumps(report(SAD_B)).replace('"sad": 6.0', '"sad": 1e999'))
    assert "sad of lion is too large" in refused(a, b)
    bare = report({"lion": 1.0})
    bare["images"] = {"lion": {"pixels": 3}}
    assert "the images have no metric" in refused(*save(A=bare, B=bare))


def test_a_trimap_in_a_whole_report_is_refused(save):
    odd = changed(["set", "lion", "trimap"], "b" * 64, report(SAD_B, region="whole"))
    assert "a trimap of lion in a report of region whole" in refused(*save(A=report(SAD_A), B=odd))


def test_missing_files_folders_and_bytes_that_are_no_text_are_refused(save, tmp_path):
    (a,) = save(A=report(SAD_A))
    assert (
        refused(a, tmp_path / "no.json")
        == f"{tmp_path}/no.json: expected a JSON report of evaluation.py, found nothing"
    )
    assert refused(a, tmp_path).endswith("found a folder")
    binary = tmp_path / "b.json"
    binary.write_bytes(b'{"format_version": 2, "images": "\xff"}')
    assert "not valid JSON" in refused(a, binary)


def test_a_file_beyond_the_size_limit_is_refused_without_parsing_it(save, monkeypatch):
    a, b = save(A=report(SAD_A), B=report(SAD_B) | {"padding": "x" * 2**20})
    monkeypatch.setattr(saved, "MAX_BYTES", 2**20)
    assert refused(a, b) == f"{b}: larger than 1 MiB; expected a JSON report of evaluation.py"


def test_a_report_saved_by_an_editor_with_a_byte_order_mark_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(report(SAD_A)), encoding="utf-8-sig")
    assert read_report(file).scores["lion"]["sad"] == 9.0


def test_methods_without_a_common_metric_are_refused(save):
    a, b = report(SAD_A), report(SAD_B)
    for record, kept in ((a, "sad"), (b, "mse")):
        record["images"] = {name: {kept: scores[kept], "pixels": 9} for name, scores in record["images"].items()}
    assert "no metric in common" in refused(*save(A=a, B=b))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--names", "one"], "--names: expected 2, one for each report in their order, got 1"),
        (["--names", "one", "one"], "--names: 'one' is given twice"),
        (["--names", "one", " "], "--names: ' ' is empty"),
        (["--resamples", "99"], "--resamples: expected 100 to 1000000, got 99"),
        (["--resamples", "1000001"], "--resamples: expected 100 to 1000000, got 1000001"),
        (["--confidence", "95"], "--confidence: expected a fraction between 0 and 1, such as 0.95, got 95.0"),
        (["--confidence", "nan"], "--confidence: expected a fraction"),
        (["--top", "-1"], "--top: expected 0 or more, got -1"),
        (["--seed", "-1"], "--seed: expected 0 or more, got -1"),
        (["--json", "."], "expected a file to write to, found a folder"),
        (["--markdown", "t", "--latex", "./t"], "would be written over another output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_meant_are_refused(save, options, said):
    assert said in refused(*save(A=report(SAD_A), B=report(SAD_B)), *options)


def test_a_report_is_neither_compared_with_itself_nor_written_over(save, tmp_path):
    a, b = save(A=report(SAD_A), B=report(SAD_B))
    before = Path(b).read_text()
    assert "given twice" in refused(a, b, a)
    assert "given twice" in refused(a, tmp_path / "." / ".." / tmp_path.name / "A.json")
    assert refused(a) == f"expected two reports or more to compare, got {a} alone"
    assert "would be written over" in refused(a, b, "--json", b)
    assert Path(b).read_text() == before


def test_a_mistake_ends_the_script_with_status_2_and_one_line(save):
    a, b = save(A=report(SAD_A), B="")
    done = subprocess.run([sys.executable, "tools/compare.py", a, b], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {b}: the file is empty; expected a JSON report of evaluation.py\n"
    assert done.stdout == ""


def test_truths_drawn_when_none_is_shared_are_the_images(save, capsys):
    files = save(A=report(SAD_A), B=report(SAD_B))
    images, truths = (compared(capsys, *files, "--resample", resample)[0] for resample in ("images", "truths"))
    assert images == truths.replace("of the truths", "of the images")


def test_refusals_stay_on_one_line_whatever_the_images_are_called(save):
    a, b = save(A=report({"x\ny": 1.0}), B=report({"lion": 1.0}, fingerprint="e" * 64))
    assert r"(x\ny)" in refused(a, b)
    a, b = save(A=report({"x\ny": True}), B=report(SAD_B))
    assert r"sad of x\ny is of type bool" in refused(a, b)
    a, b = save(A=report(SAD_A, failed={"x\ny": "why"}), B=report(SAD_B))
    assert r"(x\ny)" in refused(a, b)


def test_names_that_are_no_text_are_spelled_out(save, capsys):
    name = "caf\udce9\n\u202e"  # as the file system hands over bytes that are not UTF-8, and two that play tricks
    text, _ = compared(capsys, *save(A=report({**SAD_A, name: 1.0}), B=report({**SAD_B, name: 9.0})))
    assert r"caf\udce9\n\u202e" in text


# ---- tables

MEANS = {
    "ViTMatte-S": {"sad": 21.4649, "mse": 0.0033, "grad": 7.241, "conn": math.nan},
    "Ours & co_1": {"sad": 20.331, "mse": 0.003304, "grad": 7.5, "conn": 14.78},
}


def test_markdown_table_worked_by_hand():
    assert markdown_table(MEANS) == (
        "| Method | SAD (10³) ↓ | MSE (10⁻³) ↓ | Grad (10³) ↓ | Conn (10³) ↓ |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| ViTMatte-S | 21.46 | **3.30** | **7.24** | – |\n"  # 3.300 and 3.304 print alike: both are best
        "| Ours \\& co\\_1 | **20.33** | **3.30** | 7.50 | 14.78 |\n"  # alone is not best
    )


def test_latex_table_worked_by_hand():
    assert latex_table(MEANS) == (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{tabular}{lrrrr}\n"
        "\\toprule\n"
        "Method & SAD ($10^{3}$) $\\downarrow$ & MSE ($10^{-3}$) $\\downarrow$ & Grad ($10^{3}$) $\\downarrow$ & "
        "Conn ($10^{3}$) $\\downarrow$ \\\\\n"
        "\\midrule\n"
        "ViTMatte-S & 21.46 & \\textbf{3.30} & \\textbf{7.24} & -- \\\\\n"
        "Ours \\& co\\_1 & \\textbf{20.33} & \\textbf{3.30} & 7.50 & 14.78 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_the_higher_psnr_and_ssim_are_bold_under_an_arrow_up():
    means = {"a": {"psnr": 31.234, "ssim": 0.98765}, "b": {"psnr": 30.0, "ssim": 0.98764}}
    head, _, a, b = markdown_table(means).splitlines()
    assert re.fullmatch(r"\| Method \| PSNR.* ↑ \| SSIM.* ↑ \|", head)
    assert a == "| a | **31.23** | **0.9877** |"  # rounded up, unlike the other
    assert b == "| b | 30.00 | 0.9876 |"
    assert latex_table(means).count(r"$\uparrow$") == 2


NASTY_NAMES = [
    "a | b", "\\", "a\\|b", "*x*", "_y_", "`z`", "<b>", "[1] (x)", "~~t~~", "# h", "$m$", "&amp;", "a\nb", "![i](j)",
]  # fmt: skip


def markdown_cells(table):
    """Split a table as GitHub does, at bars not escaped, and undo escapes: the text that a reader sees."""
    rows = [re.findall(r"((?:\\.|[^|\\])*)\|", line)[1:] for line in table.splitlines()]
    return [[re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in row] for row in rows]


def test_markdown_names_are_read_back_as_they_were():
    rows = markdown_cells(markdown_table({name: {"sad": i} for i, name in enumerate(NASTY_NAMES)}))
    assert [row[0] for row in rows[2:]] == [name.replace("\n", "\\n") for name in NASTY_NAMES]
    assert {len(row) for row in rows} == {2}
    unescaped = "".join(re.sub(r"\\[!-/:-@\[-`{-~]", "", escape_markdown(name)) for name in NASTY_NAMES)
    assert not set(unescaped) & set("\\`*_[]<>#|~$&!")  # nothing is left that Markdown could take for markup


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("a_b & 5% $x$ #1 {y}", r"a\_b \& 5\% \$x\$ \#1 \{y\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("<a|b>", r"\textless{}a\textbar{}b\textgreater{}"),
        ("ViT--B `", r"ViT-{}-B \`{}"),
        ("---", "-{}-{}-"),
        ("[12] DiffMatte", "{}[12] DiffMatte"),  # \\[12] would be a line skip
        ("*", "{}*"),
        ("a\nb", r"a\textbackslash{}nb"),
        ("Siméoni", "Siméoni"),
    ],
)
def test_latex_names_are_escaped(name, latex):
    assert escape_latex(name) == latex


def test_tables_are_written_to_files_or_printed(save, capsys, tmp_path):
    files = save(A=report(SAD_A), B=report(SAD_B))
    markdown, latex = tmp_path / "t.md", tmp_path / "t.tex"
    names = ["--names", "ViTMatte-S", "Ours_1"]
    text, _ = compared(capsys, *files, *names, "--markdown", markdown, "--latex", latex)
    assert "|" not in text
    assert "| Ours\\_1 | **5.00** | **5.00** | **10.00** | **15.00** |\n" in markdown.read_text(encoding="utf-8")
    assert latex.read_text(encoding="utf-8").startswith("% needs")
    text, _ = compared(capsys, *files, *names, "--markdown", "-", "--latex", "-")
    assert text.endswith(f"\n\n{markdown.read_text(encoding='utf-8')}\n{latex.read_text(encoding='utf-8')}")


# ---- the whole way


def test_two_evaluations_of_the_goldens_are_compared(tmp_path, capsys):
    worse = tmp_path / "worse"
    worse.mkdir()
    for file in (GOLDEN_DIR / "pred").iterdir():
        pred_alpha = np.array(Image.open(file)).astype(int)
        Image.fromarray(np.clip(pred_alpha + np.where(pred_alpha > 127, -9, 9), 0, 255).astype(np.uint8)).save(
            worse / file.name
        )
    files = []
    for pred_dir in (GOLDEN_DIR / "pred", worse):
        files.append(str(tmp_path / f"{pred_dir.name}.json"))
        folders = ["--label-dir", str(GOLDEN_DIR / "alpha"), "--trimap-dir", str(GOLDEN_DIR / "trimap")]
        assert evaluation.main(["--pred-dir", str(pred_dir), *folders, "--json", files[-1], "--num-workers", "0"]) == 0
    capsys.readouterr()

    text, warnings = compared(capsys, *files, "--json", tmp_path / "c.json")
    assert text.startswith("5 images, region unknown")
    assert "MSE (10^-3) is undefined on 1 of 5 images (no_unknown_64x80)" in warnings
    record = json.loads((tmp_path / "c.json").read_text())
    scores = [json.loads(Path(file).read_text()) for file in files]
    goldens = json.loads((GOLDEN_DIR / "goldens.json").read_text())
    for metric in METRICS:
        result = record["against"]["worse"]["metrics"][metric]
        names = [name for name, golden in goldens.items() if golden[metric] is not None]
        assert result["baseline_mean"] == pytest.approx(np.mean([goldens[name][metric] for name in names]), rel=1e-5)
        changes = [scores[1]["images"][name][metric] - scores[0]["images"][name][metric] for name in names]
        assert result["difference"] == pytest.approx(np.mean(changes))
        assert result["wins"] == sum(change < 0 for change in changes)
        assert result["ties"] == sum(change == 0 for change in changes)
        assert result["low"] <= result["difference"] <= result["high"]

    whole = str(tmp_path / "whole.json")
    folders = ["--pred-dir", str(worse), "--label-dir", str(GOLDEN_DIR / "alpha"), "--region", "whole"]
    assert evaluation.main([*folders, "--json", whole, "--num-workers", "0"]) == 0
    assert "scores region whole" in refused(files[0], whole)
