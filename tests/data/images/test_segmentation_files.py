"""Folders of pictures and masks: which are used, and one line for each file that cannot be."""

import re

import numpy as np
import pytest
from PIL import Image

from data.images.classes import Classes
from data.images.segmentation_files import ROOT_VARIABLE, find_split, set_problems
from runtime.errors import InputError

CLASSES = Classes.numbered(2)  # values 0 and 255


@pytest.fixture
def folders(tmp_path):
    found = tmp_path / "valid_images", tmp_path / "valid_masks"
    for folder in found:
        folder.mkdir()
    return found


def test_folders_are_those_given_or_those_of_the_root(folders, tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "elsewhere"))
    assert find_split("valid", None, *map(str, folders)) == folders
    assert find_split("valid", tmp_path / "unused", *folders) == folders
    assert find_split("valid", str(tmp_path), None, None) == folders
    monkeypatch.setenv("DINOMATTE_SEGMENTATION_ROOT", str(tmp_path))
    assert find_split("valid", None, None, None) == folders


def test_folders_that_are_missing_are_named(folders, tmp_path, monkeypatch):
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    with pytest.raises(InputError, match=r"^no train data: .* DINOMATTE_SEGMENTATION_ROOT, to a folder"):
        find_split("train", None, None, None)
    images, masks = tmp_path / "train_images", tmp_path / "train_masks"
    with pytest.raises(InputError, match=f"^{re.escape(f'{images}, {masks}')}: expected folders of pictures"):
        find_split("train", tmp_path, None, None)
    with pytest.raises(InputError, match=f"^{re.escape(str(masks))}: expected folders"):
        find_split("valid", None, folders[0], masks)
    for image_dir, mask_dir in ((folders[0], None), (None, folders[1])):
        with pytest.raises(InputError, match=r"^valid data: image_dir and mask_dir belong together, got "):
            find_split("valid", tmp_path, image_dir, mask_dir)


def test_each_unusable_file_has_one_line(folders):
    images, masks = folders
    for name in ("a", "b", "c", "d", "e"):
        Image.new("RGB", (4, 3)).save(images / f"{name}.png")
        Image.fromarray(np.uint8([[0, 255, 0, 0]] * 3)).save(masks / f"{name}.png")
    (masks / "a.png").rename(masks / "a_seg.png")
    paths = sorted(masks.iterdir())
    assert set_problems(folders, paths, CLASSES, "ids", True) == []
    Image.fromarray(np.uint8([[0, 7, 0, 0]] * 3)).save(masks / "b.png")
    Image.new("L", (5, 3)).save(masks / "c.png")
    (masks / "d.png").write_bytes((masks / "d.png").read_bytes()[:45])  # with its header, without its pixels
    (images / "e.png").unlink()
    named = [f"{masks / 'e.png'}: no image of that name in {images}", f"{masks / 'c.png'}: 5 x 3 pixels, but "]
    headers = set_problems(folders, paths, CLASSES, "ids", False)
    assert len(headers) == 2
    for text in named:
        assert sum(text in line for line in headers) == 1
    decoded = set_problems(folders, paths, CLASSES, "ids", True)
    assert len(decoded) == 4
    for text in [*named, f"{masks / 'b.png'}: unknown values 7", f"{masks / 'd.png'}: not a readable image"]:
        assert sum(text in line for line in decoded) == 1
    assert not any("b.png" in line for line in set_problems(folders, paths, CLASSES, "binary", True))
