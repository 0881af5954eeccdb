"""The contact sheet shows foregrounds over backgrounds, and their alphas."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import InputError
from tools import foreground_sheet


def library(folder: Path, count: int) -> Path:
    for part in ("fg", "alpha"):
        (folder / part).mkdir(parents=True)
    red, alpha = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
    red[..., 0], alpha[:, 16:] = 200, 255
    for index in range(count):
        Image.fromarray(red).save(folder / "fg" / f"p_{index}.png")
        Image.fromarray(alpha).save(folder / "alpha" / f"p_{index}.png")
    return folder


def test_a_band_holds_composites_above_alphas(tmp_path, monkeypatch):
    sheet = tmp_path / "sheet.png"
    options = [
        "--libraries",
        str(library(tmp_path / "lib", 3)),
        "--output",
        str(sheet),
        "--columns",
        "3",
        "--cell",
        "16",
    ]
    monkeypatch.setattr(sys, "argv", ["foreground_sheet.py", *options])
    foreground_sheet.main()
    pixels = np.asarray(Image.open(sheet))
    assert pixels.shape == (32, 48, 3)
    assert (pixels[:16, :8] == foreground_sheet.FLAT[0]).all()  # alpha 0
    assert (pixels[:16, 8:16] == [200, 0, 0]).all()  # alpha 255
    assert (pixels[16:, :8] == 0).all()
    assert (pixels[16:, 8:16] == 255).all()


def test_too_few_pictures_and_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected 4 pictures, found 3"):
        foreground_sheet.band(library(tmp_path / "lib", 3), 4, 16)
    with pytest.raises(InputError, match=r"ending in .jpg or .png"):
        foreground_sheet.write(tmp_path / "sheet.gif", np.zeros((4, 4, 3), np.uint8))
