"""The picture of results: rows of composite, trimap, matte and cut-out."""

import sys

import numpy as np
import pytest
from PIL import Image

from data.images.files import write_png
from runtime.errors import InputError
from tools import result_picture


@pytest.fixture
def library(tmp_path):
    alpha = np.zeros((64, 64), np.uint8)
    alpha[16:48, 16:48] = 255
    Image.fromarray(np.full((64, 64, 3), (200, 60, 20), np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "fg").mkdir()
    (tmp_path / "image.png").rename(tmp_path / "fg" / "a.png")
    write_png(tmp_path / "alpha" / "a.png", alpha)
    return tmp_path


def test_a_row_shows_the_subject_in_all_four_parts(library, monkeypatch):
    options = ["--library", str(library), "--names", "a", "--output", str(library / "out.png")]
    monkeypatch.setattr(sys, "argv", ["result_picture.py", *options])
    result_picture.main()
    image, trimap, matte, plain = np.split(np.asarray(Image.open(library / "out.png")), 4, axis=1)
    assert image[32, 32].tolist() == [200, 60, 20]
    assert [trimap[at, at].tolist() for at in (0, 16, 32)] == [[0] * 3, [128] * 3, [255] * 3]
    assert [matte[at, at].tolist() for at in (0, 32)] == [[0] * 3, [255] * 3]
    assert [plain[at, at].tolist() for at in (0, 32)] == [result_picture.PLAIN.tolist(), [200, 60, 20]]


def test_a_name_that_the_library_lacks_is_one_line(library, monkeypatch):
    options = ["--library", str(library), "--names", "b", "--output", str(library / "out.png")]
    monkeypatch.setattr(sys, "argv", ["result_picture.py", *options])
    with pytest.raises(InputError, match=r"found no fg/b\.png"):
        result_picture.main()
