"""Scan of a training set: one line for each unusable file, and the mattes that are looked at."""

import numpy as np
import pytest
from PIL import Image

from data.images import scan
from data.images.mattes import Reading
from data.images.scan import (
    look_at_mattes,
    pair_problems,
    partnerless,
    require_none,
    size_mismatches,
    training_set_problems,
    unpaired,
    unreadable_images,
)
from runtime.errors import InputError


def cut_short(path) -> None:
    """Leave the header of a PNG and a part of its pixels."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:300])


@pytest.fixture
def folders(tmp_path):
    for name in ("fg", "alpha", "bg"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (4, 3)).save(tmp_path / "fg" / f"{name}.png")
        Image.fromarray(np.uint8([[0, 100, 255, 255]] * 3)).save(tmp_path / "alpha" / f"{name}.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "bg" / "x.png")
    return tmp_path / "fg", tmp_path / "alpha", tmp_path / "bg"


def test_files_without_a_partner_name_the_folder_where_it_is_missing(tmp_path):
    first, second = {"a": tmp_path / "1/a.png", "b": tmp_path / "1/b.png"}, {"b": tmp_path / "2/b.png"}
    assert partnerless(first, tmp_path / "1", second, tmp_path / "2") == {
        tmp_path / "1/a.png": f"no image of that name in {tmp_path / '2'}"
    }
    assert unpaired(second, tmp_path / "2", first, tmp_path / "1") == [
        f"{tmp_path / '1/a.png'}: no image of that name in {tmp_path / '2'}"
    ]


def test_truncated_files_are_found_by_decoding_only(folders):
    foregrounds, alphas, backgrounds = folders
    assert training_set_problems(*folders) == []
    for path in (foregrounds / "a.png", alphas / "b.png", backgrounds / "x.png"):
        cut_short(path)
    assert [line.split(": ")[0] for line in training_set_problems(*folders)] == [
        str(path) for path in (foregrounds / "a.png", alphas / "b.png", backgrounds / "x.png")
    ]
    assert [line.split(": ")[0] for line in pair_problems(foregrounds, alphas)] == [
        str(path) for path in (foregrounds / "a.png", alphas / "b.png")
    ]
    assert list(unreadable_images([backgrounds / "x.png"])) == [backgrounds / "x.png"]
    by_header = training_set_problems(*folders, decode=False)  # where only the sizes differ
    assert [line.split(": ")[0] for line in by_header] == [str(alphas / "a.png"), str(alphas / "b.png")]
    assert by_header[0] == f"{alphas / 'a.png'}: 4 x 3 pixels, but {foregrounds / 'a.png'} has 20 x 20"


def test_alphas_are_decoded_as_mattes_in_a_training_set_and_as_pictures_in_pairs(folders):
    Image.fromarray(np.uint8([[[9, 200, 30]] * 4] * 3)).save(folders[1] / "a.png")  # a picture in colours
    (line,) = training_set_problems(*folders)
    assert line.startswith(f"{folders[1] / 'a.png'}: ")
    (folders[1] / "b.png").rename(folders[1] / "b_alpha.png")
    assert pair_problems(folders[0], folders[1]) == []


def test_reasons_are_kept_by_path(folders, tmp_path):
    (tmp_path / "text.png").write_text("text")
    paths = [folders[0] / "a.png", tmp_path / "text.png"]
    assert list(unreadable_images(iter(paths))) == [tmp_path / "text.png"]
    assert unreadable_images(iter(paths), num_threads=1)[tmp_path / "text.png"].endswith("(unknown or damaged format)")


def test_each_file_of_a_group_is_compared_with_the_first(folders, tmp_path):
    foregrounds, alphas, backgrounds = folders
    groups = [(foregrounds / "a.png", alphas / "a.png", backgrounds / "x.png"), (foregrounds / "b.png",)]
    assert size_mismatches(groups) == [f"{backgrounds / 'x.png'}: 9 x 9 pixels, but {foregrounds / 'a.png'} has 4 x 3"]


@pytest.mark.parametrize(("number", "looked"), [(2, [0, 1]), (4, [0, 1, 2, 3]), (5, [0, 1, 2, 3]), (9, [0, 2, 4, 6])])
def test_mattes_that_are_looked_at_are_evenly_spread(tmp_path, monkeypatch, number, looked):
    monkeypatch.setattr(scan, "SAMPLED", 4)
    pairs = []
    for index in range(number):
        Image.new("L", (4, 3)).save(tmp_path / f"{index}.png")
        pairs.append((tmp_path / f"{index}.png", tmp_path / f"{index}.png"))
    seen = []

    def read(path):
        seen.append(int(path.stem))
        return Reading(None, "odd")

    problems, lines = look_at_mattes(pairs, [], False, read, "mask")
    assert problems == []
    assert sorted(seen) == looked
    few = "" if number <= 4 else "of 4 masks looked at, "
    assert lines == [f"{few}{min(number, 4)} masks: odd (the first is {tmp_path / '0.png'})"]
    seen.clear()
    _, lines = look_at_mattes(pairs, [], True, read, "mask")
    assert sorted(seen) == list(range(number))
    assert lines == [f"{number} masks: odd (the first is {tmp_path / '0.png'})"]


def test_refused_mattes_and_turned_pairs_are_reported(folders):
    foregrounds, alphas, _ = folders
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (4, 3)).save(foregrounds / "a.png", exif=exif)
    (alphas / "b.png").write_text("text")
    (alphas / "notes.txt").touch()
    pairs = [(foregrounds / f"{name}.png", alphas / f"{name}.png") for name in ("a", "b")]
    problems, lines = look_at_mattes(pairs, folders[:2], True)
    assert [line.split(": ")[0] for line in problems] == [str(alphas / "b.png")]
    assert len(lines) == 2
    assert lines[0].startswith("1 alpha: EXIF orientation other than")
    assert lines[1].startswith(f"{alphas}: ignored 1 .txt (notes.txt)")


@pytest.mark.parametrize(("number", "shown"), [(1, "0"), (5, "0; 1; 2; 3; 4"), (7, "0; 1; 2; 3; 4; and 2 more")])
def test_a_message_has_the_first_five_problems(number, shown):
    require_none([], "advice")
    with pytest.raises(InputError) as caught:
        require_none([str(index) for index in range(number)], "remove them")
    assert str(caught.value) == f"{shown}: remove them"
