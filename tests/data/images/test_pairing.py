"""One rule by which files belong together: Unicode's form, case, and a word for the role at the end of a name."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data.images.files import images_by_stem, write_png
from data.images.pairing import fits, fitted, name_key
from data.preparation.dataset_check import TrainingSet, check_dataset
from data.testing.matting_folder import MattingFolder
from data.training.alpha_folders import AlphaFolderDataset
from data.training.dim_dataset import CompositionDataset
from metrics.matching import match_folders
from runtime.errors import InputError

NFD = unicodedata.normalize("NFD", "Zoë")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        write_png(folder / name, np.zeros((4, 4), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("names", "partners", "expected"),
    [
        (["Zoë"], [NFD], {NFD: "Zoë"}),
        ([NFD], ["Zoë"], {"Zoë": NFD}),
        (["CAT", "Straße"], ["cat", "STRASSE"], {"cat": "CAT", "STRASSE": "Straße"}),
        (["cat"], ["cat_trimap"], {"cat_trimap": "cat"}),
        (["cat"], ["Cat-Trimap"], {"Cat-Trimap": "cat"}),
        (["cat_image", "dog.rgb"], ["cat_trimap", "dog"], {"cat_trimap": "cat_image", "dog": "dog.rgb"}),
        (["a/cat", "b/cat"], ["a/cat_trimap", "b/cat"], {"a/cat_trimap": "a/cat", "b/cat": "b/cat"}),
        (["cat", "cat_trimap"], ["cat", "cat_trimap"], {"cat": "cat", "cat_trimap": "cat_trimap"}),  # all are exact
        (["cat_img"], ["cat_img_trimap"], {"cat_img_trimap": "cat_img"}),  # the role may follow the whole name
        (["cat"], ["cat_matte", "cat2", "_trimap", "trimap"], {}),  # a matte is no trimap; a name may be the word alone
    ],
)
def test_names_fit_by_form_case_and_role(names, partners, expected):
    assert fits(names, partners, "trimap") == (expected, [])


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("image", "image img rgb"),
        ("trimap", "trimap tri"),
        ("alpha", "alpha matte mask gt label pred"),
        ("mask", "mask seg alpha matte gt label"),
    ],
)
def test_the_documented_words_for_each_role_are_known(role, words):
    for word in words.split():
        assert fits(["cat"], [f"cat_{word}"], role) == ({f"cat_{word}": "cat"}, [])
        assert fits([f"cat.{word.upper()}"], ["cat"], "trimap", of=role) == ({"cat": f"cat.{word.upper()}"}, [])


@pytest.mark.parametrize("count", [5, 6, 9])
def test_the_first_five_ambiguous_names_are_shown(count):
    names = [f"cat{number}" for number in range(count)]
    partners = {f"{name}{sign}trimap": Path("t") / f"{name}{sign}trimap.png" for name in names for sign in "_-"}
    lines = "; ".join(f"{name} fits {name}-trimap, {name}_trimap" for name in names[:5])
    more = f"; and {count - 5} more" if count > 5 else ""
    with pytest.raises(InputError) as caught:
        fitted(names, partners, "trimap")
    assert str(caught.value) == f"t: {lines}{more}: rename or remove files, so that one is left"


@pytest.mark.parametrize(
    ("names", "partners", "line"),
    [
        (["cat"], ["cat", "cat_trimap"], "cat fits cat, cat_trimap"),
        (["cat"], ["cat_trimap", "cat-trimap"], "cat fits cat-trimap, cat_trimap"),
        (["cat_image", "cat-img"], ["cat"], "trimap cat fits cat-img, cat_image"),
    ],
)
def test_what_could_be_meant_twice_is_refused_by_name(names, partners, line):
    assert line in fits(names, partners, "trimap")[1]
    with pytest.raises(InputError, match=line):
        fitted(names, {name: Path(f"{name}.png") for name in partners}, "trimap")


def test_a_folder_with_twins_is_refused_and_shows_how_they_differ(tmp_path):
    put(tmp_path / "form", "Zoë.png", f"{NFD}.png")
    with pytest.raises(InputError, match=r"'Zo\\xeb.png'") as caught:
        images_by_stem(tmp_path / "form")
    assert r"'Zoe\u0308.png'" in str(caught.value)
    put(tmp_path / "case", "Cat.png", "cat.png")
    with pytest.raises(InputError, match=r"Cat\.png and cat\.png share a name"):
        images_by_stem(tmp_path / "case")
    put(tmp_path / "phone", "1.heic", "1.jpg", "2.heic", "2.jpg", "3.jpg", "3.png")
    with pytest.raises(InputError, match=r"1\.heic and 1\.jpg share a name; .* \(the first of 3 such pairs\)$"):
        images_by_stem(tmp_path / "phone")


def test_every_program_pairs_by_the_rule(tmp_path):
    images = put(tmp_path / "image", f"{NFD}.png", "CAT.png", "dog.png", "owl_rgb.png")
    alphas = put(tmp_path / "alpha", "Zoë.png", "cat.png", "dog_alpha.png", "owl.png")
    trimaps = put(tmp_path / "trimap", "Zoë_trimap.png", "Cat_Trimap.png", "dog.png", "owl_rgb.png")
    backgrounds = put(tmp_path / "bg", "1.png")
    expected = {name_key(path.stem): path for path in images.iterdir()}
    alpha_of = {"zoë": "Zoë.png", "cat": "cat.png", "dog": "dog_alpha.png", "owl_rgb": "owl.png"}

    for files in MattingFolder(images, trimaps, alphas, allow_extra=False).files():
        assert files["alpha"].name == alpha_of[name_key(files["image"].stem)]
        assert files["trimap"].stem.casefold().startswith(files["alpha"].stem.removesuffix("_alpha").casefold())
    for dataset in (
        AlphaFolderDataset(image_dir=images, alpha_dir=alphas),
        CompositionDataset(fg_dir=images, alpha_dir=alphas, bg_dir=backgrounds),
    ):
        assert dataset.problems() == []
        dataset.list_files()
        assert {name_key(image.stem): alpha.name for image, alpha in dataset.files.pairs} == alpha_of
    kinds = {
        finding.kind for finding in check_dataset(TrainingSet(images, alphas), crop_size=1, progress=False).findings
    }
    assert not kinds & {"no-partner", "ambiguous"}
    predictions = put(tmp_path / "pred", f"{NFD}.png", "CAT.png", "dog.png", "owl_pred.png")
    cases = match_folders(predictions, alphas, trimaps_named(trimaps, alphas)).cases
    assert {case.alpha_file.name: case.pred_file.name for case in cases} == {
        "Zoë.png": f"{NFD}.png", "cat.png": "CAT.png", "dog_alpha.png": "dog.png", "owl.png": "owl_pred.png"
    }  # fmt: skip
    assert len(expected) == 4


def trimaps_named(trimaps: Path, alphas: Path) -> Path:
    """The trimaps without the one that is named after its image, which evaluation does not see."""
    (trimaps / "owl_rgb.png").rename(trimaps / "owl.png")
    return trimaps


def test_every_program_refuses_what_is_ambiguous(tmp_path):
    images = put(tmp_path / "image", "cat.png")
    alphas = put(tmp_path / "alpha", "cat.png", "cat_alpha.png")
    for use in (
        lambda: MattingFolder(images, alpha_dir=alphas).files(),
        AlphaFolderDataset(image_dir=images, alpha_dir=alphas).list_files,
        AlphaFolderDataset(image_dir=images, alpha_dir=alphas).problems,
        lambda: match_folders(alphas, images, None, region="whole"),
    ):
        with pytest.raises(InputError, match="cat fits cat, cat_alpha"):
            use()
    findings = check_dataset(TrainingSet(images, alphas), crop_size=1, progress=False).findings
    assert [finding.text for finding in findings if finding.kind == "ambiguous"] == ["cat fits cat, cat_alpha"]


def test_composites_of_shared_truths_pair_by_the_rule(tmp_path):
    truths = put(tmp_path / "alpha", "Zoë.png", "dog.png")
    predictions = put(tmp_path / "pred", *(f"{name}_{k}.png" for name in (NFD, "DOG") for k in (0, 1)))
    trimaps = put(tmp_path / "trimap", *(f"{name}_{k}_trimap.png" for name in ("Zoë", "Dog") for k in (0, 1)))
    found = match_folders(predictions, truths, trimaps)
    assert found.shared_truths
    assert [case.name for case in found.cases] == ["Zoë_0", "Zoë_1", "dog_0", "dog_1"]
    assert found.cases[2].trimap_file.name == "Dog_0_trimap.png"


def test_names_of_scores_do_not_depend_on_the_system_that_wrote_the_files(tmp_path):
    composed, decomposed = put(tmp_path / "c", "Zoë.png"), put(tmp_path / "d", f"{NFD}.png")
    names = [match_folders(folder, folder, None, region="whole").cases[0].name for folder in (composed, decomposed)]
    assert names == ["Zoë", "Zoë"]


def test_one_trimap_serves_a_whole_folder(tmp_path):
    images = put(tmp_path / "image", "a.png", "sub/b.png")
    trimap = put(tmp_path, "t.png") / "t.png"
    files = MattingFolder(images, trimap, recursive=True).files()
    assert [paths["trimap"] for paths in files] == [trimap, trimap]
    cases = match_folders(images, images, trimap).cases
    assert [(case.name, case.trimap_file) for case in cases] == [("a", trimap), ("sub/b", trimap)]
