"""Free backgrounds: the list, a Qt archive written by hand, and what the tool reports as missing."""

import struct

import cv2
import numpy as np
import pytest

from data.images.files import read_rgb
from data.synthetic.free_photographs import free_photographs, write_photographs, write_textures
from data.synthetic.qt_resources import resource_files
from runtime.errors import InputError


def qt_archive(name: str, content: bytes) -> bytes:
    """An archive of version 2 with one folder holding one file, after Qt's documented layout of rcc output."""
    encoded = [text.encode("utf-16-be") for text in ("", name)]
    names = b"".join(struct.pack(">HI", len(text) // 2, 0) + text for text in encoded)
    root = struct.pack(">IHIIQ", 0, 2, 1, 1, 0)
    entry = struct.pack(">IHHHIQ", 6, 0, 0, 0, 0, 0)
    data = struct.pack(">I", len(content)) + content
    tree_at = 20
    data_at = tree_at + len(root + entry)
    header = b"qres" + struct.pack(">4I", 2, tree_at, data_at, data_at + len(data))
    return header + root + entry + data + names


def test_every_listed_licence_allows_a_model_to_be_passed_on():
    photographs = free_photographs()
    assert len({photograph.name for photograph in photographs}) == len(photographs)
    for photograph in photographs:
        assert photograph.author
        assert not {"SA", "GPL"} & set(photograph.licence.split("-"))
        assert photograph.licence.startswith(("CC0", "CC-BY-", "public domain", "no known restrictions"))


def test_a_file_comes_out_of_a_qt_archive(tmp_path):
    path = tmp_path / "a.rcc"
    path.write_bytes(qt_archive("moose.webp", b"twelve bytes"))
    assert list(resource_files(path)) == [("moose.webp", b"twelve bytes")]
    path.write_bytes(qt_archive("moose.webp", b"twelve bytes")[:40])
    with pytest.raises(InputError, match=r"a\.rcc: damaged"):
        list(resource_files(path))
    path.write_bytes(b"something else, and long enough")
    with pytest.raises(InputError, match="expected a Qt resource archive"):
        list(resource_files(path))


def test_photographs_are_reduced_and_attributed_and_missing_ones_named(tmp_path):
    folder = tmp_path / "unpacked" / "usr/share/backgrounds"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "life_by_Aitzol_Berasategi.jpg"), np.full((300, 2560, 3), (20, 120, 220), np.uint8))
    output = tmp_path / "bg"
    output.mkdir()
    written, missing = write_photographs(tmp_path / "unpacked", output)
    assert "life" in {photograph.name for photograph in written}
    picture = read_rgb(output / "life.jpg")
    assert picture.shape == (150, 1280, 3)
    assert np.abs(picture.reshape(-1, 3).mean(axis=0) - (220, 120, 20)).max() < 2
    assert "life.jpg,Aitzol Berasategi,CC-BY-4.0" in (output / "ATTRIBUTION.csv").read_text()
    assert any(line.startswith("gcompris-qt-data: ") and "dpkg -x" in line for line in missing)


def test_a_texture_depends_on_its_number_and_the_seed_alone(tmp_path):
    write_textures(tmp_path, 2, seed=3)
    first, second = (tmp_path / f"texture_000{number}.jpg" for number in (0, 1))
    kept = first.read_bytes()
    assert kept != second.read_bytes()
    assert read_rgb(first).shape == (640, 640, 3)
    write_textures(tmp_path, 1, seed=3)
    assert first.read_bytes() == kept
