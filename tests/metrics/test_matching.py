"""Matching of predictions, truths and trimaps by name, worked out by hand on empty files: only names count."""

from pathlib import Path

import pytest

from metrics.matching import match_folders
from runtime.errors import InputError


@pytest.fixture
def matched(tmp_path):
    """Match folders with the given names; the cases as name -> (prediction, truth, trimap), names without suffix."""

    def match(preds, truths, trimaps, **options):
        for folder, names in (("p", preds), ("l", truths), ("t", trimaps or ())):
            for name in names:
                file = tmp_path / folder / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        return match_folders(tmp_path / "p", tmp_path / "l", tmp_path / "t" if trimaps else None, **options)

    return match


def files(found, root):
    def bare(path, folder):
        return None if path is None else path.relative_to(root / folder).with_suffix("").as_posix()

    return {
        case.name: (bare(case.pred_file, "p"), bare(case.alpha_file, "l"), bare(case.trimap_file, "t"))
        for case in found.cases
    }


def message(root: Path, *parts: str) -> str:
    """The text of a refusal, of which `parts` name the folders p, l and t by {p}, {l} and {t}."""
    return "the set is incomplete or mismatched: " + "; ".join(parts).format(p=root / "p", l=root / "l", t=root / "t")


HINT = "--allow-missing scores without the missing predictions"


@pytest.mark.parametrize("region", ["unknown", "whole"])
def test_every_mismatch_of_shared_truths_is_in_the_message(matched, tmp_path, region):
    names = ("a_0", "a_1", "x"), ("a", "b"), ("a_0", "a_2", "y")
    misfits = ("2 without a truth in {l} (a_1, x)", "1 without a truth in {l} (y)",
               "1 without a trimap NAME_k in {t} (b)")  # fmt: skip
    with pytest.raises(InputError) as caught:
        matched(*names, region=region)
    assert str(caught.value) == message(tmp_path, "1 without a prediction in {p} (a_2)", *misfits, HINT)
    with pytest.raises(InputError) as caught:
        matched(*names, region=region, allow_missing=True)
    assert str(caught.value) == message(tmp_path, *misfits)


def test_an_image_without_a_truth_is_listed_once_though_two_folders_have_it(matched, tmp_path):
    with pytest.raises(InputError) as caught:
        matched(("a", "z"), ("a", "b"), ("a", "z"), allow_missing=True)
    assert str(caught.value) == message(tmp_path, "1 without a truth in {l} (z)", "1 without a trimap in {t} (b)")


def test_the_hint_on_missing_predictions_is_for_sets_with_missing_predictions(matched, tmp_path):
    with pytest.raises(InputError) as caught:
        matched(("a", "z"), ("a",), ("a",))
    assert str(caught.value) == message(tmp_path, "1 without a truth in {l} (z)")


def test_missing_predictions_are_sorted_and_expected(matched):
    found = matched(("b",), ("c", "b", "a"), ("a", "b", "c"), allow_missing=True)
    assert (found.missing, found.expected, found.shared_truths) == (["a", "c"], 3, False)


def test_a_truth_is_shared_only_if_more_names_agree_with_a_number(matched, tmp_path):
    with pytest.raises(InputError) as caught:  # a and a_1 agree with truth a in one name each
        matched(("a", "a_1"), ("a",), ("a", "a_1"))
    assert str(caught.value) == message(tmp_path, "1 without a truth in {l} (a_1)")
    with pytest.raises(InputError) as caught:  # a_1 and a_2 are two
        matched(("a_2",), (), ("a_2",))
    assert str(caught.value) == message(tmp_path, "1 without a truth in {l} (a)")


def test_trimaps_count_for_whole_images_only_if_truths_are_shared(matched, tmp_path):
    found = matched(("a", "b"), ("a", "b"), ("a", "x"), region="whole")
    assert files(found, tmp_path) == {"a": ("a", "a", None), "b": ("b", "b", None)}


def test_cases_have_no_trimap_without_a_folder(matched, tmp_path):
    assert files(matched(("a",), ("a",), None), tmp_path) == {"a": ("a", "a", None)}


def test_cases_of_shared_truths_have_no_trimap_for_whole_images(matched, tmp_path):
    found = matched(("b_0",), ("b",), ("b_0",), region="whole")
    assert files(found, tmp_path) == {"b_0": ("b_0", "b", None)}


@pytest.mark.parametrize("agreeing", [("a",), ("a_1",), ("a", "a_1")])
def test_bare_names_are_not_used_if_any_name_agrees(matched, tmp_path, agreeing):
    trimaps = ("a", "b/c") if "a" in agreeing else ("a_1", "b/c_1")
    with pytest.raises(InputError, match=r"without a truth in .*\bx/c"):
        matched((*agreeing, "x/c"), ("a", "b/c"), trimaps)


def test_one_trimap_serves_shared_truths(matched, tmp_path):
    trimap = tmp_path / "t.png"
    trimap.touch()
    for folder, names in (("p", ("a_0", "a_1", "b_7")), ("l", ("a", "b"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.png").touch()
    found = match_folders(tmp_path / "p", tmp_path / "l", trimap)
    assert found.shared_truths
    assert [(case.name, case.alpha_file.stem, case.trimap_file) for case in found.cases] == [
        ("a_0", "a", trimap), ("a_1", "a", trimap), ("b_7", "b", trimap)
    ]  # fmt: skip


def test_one_trimap_serves_each_truth_of_a_set_whose_names_end_in_numbers(tmp_path):
    """Prediction a_1 could belong to truth a as well, and as many names agree so."""
    trimap = tmp_path / "t.png"
    trimap.touch()
    for path in ("p/a_1", "l/a", "l/a_1"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / f"{path}.png").touch()
    found = match_folders(tmp_path / "p", tmp_path / "l", trimap, allow_missing=True)
    assert [(case.name, case.alpha_file.stem, case.trimap_file) for case in found.cases] == [("a_1", "a_1", trimap)]
    assert (found.missing, found.shared_truths) == (["a"], False)


def test_flat_files_get_the_folders_of_the_truths(matched, tmp_path):
    found = matched(("A_0_PRED", "a_1"), ("clip/a",), ("flat/a_0_trimap", "flat/a_1"))
    assert files(found, tmp_path) == {
        "clip/a_0": ("A_0_PRED", "clip/a", "flat/a_0_trimap"),
        "clip/a_1": ("a_1", "clip/a", "flat/a_1"),
    }
    assert found.shared_truths


def test_a_flat_file_of_no_truth_keeps_its_own_path(matched, tmp_path):
    with pytest.raises(InputError) as caught:
        matched(("all/a", "all/zz", "all/zz_0"), ("clip/a",), ("clip/a",))
    assert str(caught.value) == message(tmp_path, "2 without a truth in {l} (all/zz, all/zz_0)")


@pytest.mark.parametrize(
    ("preds", "truths"),
    [
        (("a",), ("p/a", "q/A")),  # truths of one bare name, but for its case
        (("x/a", "y/a"), ("p/a", "p/b")),  # predictions of one bare name
    ],
)
def test_bare_names_are_not_used_if_they_are_ambiguous(matched, tmp_path, preds, truths):
    with pytest.raises(InputError) as caught:
        matched(preds, truths, truths)
    assert str(caught.value) == message(
        tmp_path, f"2 without a prediction in {{p}} ({', '.join(truths)})",
        f"{len(preds)} without a truth in {{l}} ({', '.join(preds)})", HINT,
    )  # fmt: skip


def test_two_predictions_of_one_composite_are_not_dropped(matched, tmp_path):
    """Both a_1 and a_1_pred would be image a_1."""
    with pytest.raises(InputError) as caught:
        matched(("a_0", "a_1", "a_1_pred"), ("a",), ("a_0", "a_1"))
    assert str(caught.value) == message(tmp_path, "1 without a truth in {l} (a_1_pred)")


def test_names_may_have_line_breaks(matched, tmp_path):
    found = matched(("a\nb_1", "a\nb_2"), ("a\nb",), ("a\nb_1", "a\nb_2"))
    assert list(files(found, tmp_path)) == ["a\nb_1", "a\nb_2"]
