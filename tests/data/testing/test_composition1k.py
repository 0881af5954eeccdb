"""Test sets on disk: names that agree, sizes that agree, and nothing opened that is not needed."""

import numpy as np
import pytest
from PIL import Image

from data.testing.composition1k import ROOT_VARIABLE, Composition1k
from data.testing.matting_folder import MattingFolder
from runtime.errors import InputError

SIZE = (20, 30)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("merged", "trimaps", "alpha_copy"):
        (tmp_path / folder).mkdir()
    for name, suffix in (("b_1", "png"), ("a_0", "jpg"), ("a_1", "PNG")):
        gray = rng.choice(np.array([0, 128, 255], np.uint8), SIZE)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(tmp_path / "merged" / f"{name}.{suffix}")
        Image.fromarray(gray).save(tmp_path / "trimaps" / f"{name}.png")
        Image.fromarray(gray).convert("RGB").save(tmp_path / "alpha_copy" / f"{name}.tif")
    return tmp_path


def message(action):
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_items_come_sorted_with_their_partners_of_any_extension(root):
    dataset = Composition1k(root)
    assert len(dataset) == 3
    assert [item["name"] for item in dataset] == ["a_0", "a_1", "b_1"]
    item = dataset[2]
    assert item["image"].shape == (*SIZE, 3)
    assert item["trimap"].shape == item["alpha"].shape == SIZE
    assert {item[part].dtype for part in ("image", "trimap", "alpha")} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(item["image"], np.asarray(Image.open(root / "merged" / "b_1.png")))
    np.testing.assert_array_equal(item["alpha"], item["trimap"])


def test_trimaps_come_quantised(root):
    Image.fromarray(np.full(SIZE, 127, np.uint8)).save(root / "trimaps" / "a_0.png")
    assert (Composition1k(root)[0]["trimap"] == 128).all()


def test_inference_opens_no_alpha(root):
    for path in (root / "alpha_copy").iterdir():
        path.write_text("unreadable")
    assert Composition1k(root, require_alpha=False)[0]["alpha"] is None
    assert "a_0.tif" in message(lambda: Composition1k(root)[0])


def test_constructing_touches_no_disk():
    Composition1k("/nowhere")
    MattingFolder("/nowhere", "/nowhere")


def test_root_comes_from_the_environment_or_is_asked_for(monkeypatch, root):
    monkeypatch.setenv(ROOT_VARIABLE, str(root))
    assert len(Composition1k()) == 3
    monkeypatch.delenv(ROOT_VARIABLE)
    assert ROOT_VARIABLE in message(lambda: len(Composition1k()))


def test_missing_folders_are_named(root):
    text = message(lambda: len(Composition1k(root / "merged")))
    assert all(name in text for name in ("merged", "trimaps", "alpha_copy"))


@pytest.mark.parametrize("folder", ["merged", "trimaps", "alpha_copy"])
def test_a_partner_missing_anywhere_is_named(root, folder):
    next((root / folder).glob("a_1.*")).unlink()
    assert "a_1" in message(lambda: len(Composition1k(root)))


def test_many_missing_partners_stay_one_short_line(root):
    for index in range(50):
        Image.new("L", SIZE[::-1]).save(root / "trimaps" / f"extra_{index}.png")
    text = message(lambda: len(Composition1k(root)))
    assert "and 45 more" in text


def test_size_mismatch_is_named_when_read_and_when_scanned(root):
    Image.new("L", (31, 20)).save(root / "trimaps" / "a_0.png")
    (root / "merged" / "b_1.png").write_text("no image")
    dataset = Composition1k(root)
    text = message(lambda: dataset[0])
    assert "31 x 20" in text
    assert "30 x 20" in text
    problems = dataset.problems()
    assert len(problems) == 2
    assert "a_0.png" in problems[1]
    assert "b_1.png" in problems[0]


def test_plain_folders_may_hold_more_trimaps_than_images(root):
    next((root / "merged").glob("b_1.*")).unlink()
    folder = MattingFolder(root / "merged", root / "trimaps")
    assert [item["name"] for item in folder] == ["a_0", "a_1"]
    assert folder[0]["alpha"] is None
    with_alpha = MattingFolder(root / "merged", root / "trimaps", root / "alpha_copy")
    assert with_alpha[0]["alpha"].shape == SIZE
    assert "b_1" in message(lambda: len(MattingFolder(root / "merged", root / "trimaps", allow_extra=False)))


def test_a_picture_in_colours_is_no_matte_of_a_folder_and_composition_1k_takes_its_first_channel(root):
    colours = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(colours).save(root / "alpha_copy" / "a_1.tif")
    folder = MattingFolder(root / "merged", root / "trimaps", root / "alpha_copy")
    np.testing.assert_array_equal(folder[0]["alpha"], folder[0]["trimap"])  # gray saved as RGB
    assert "a_1.tif: expected a gray alpha, found a picture in colours" in message(lambda: folder[1])
    assert [line for line in folder.problems(decode=True) if "a_1.tif: expected a gray alpha" in line]
    assert len(folder.problems(decode=True)) == 1
    assert folder.problems() == []
    np.testing.assert_array_equal(Composition1k(root)[1]["alpha"], colours[..., 0])
    assert Composition1k(root).problems(decode=True) == []


def test_image_without_trimap_and_empty_folder_are_errors(root, tmp_path):
    next((root / "trimaps").glob("b_1.*")).unlink()
    assert "b_1.png" in message(lambda: len(MattingFolder(root / "merged", root / "trimaps")))
    (tmp_path / "empty").mkdir()
    assert "found none" in message(lambda: len(MattingFolder(tmp_path / "empty", root / "trimaps")))
