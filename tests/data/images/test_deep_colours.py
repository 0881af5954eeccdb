"""Colours of deep photographs are the values that OpenCV, tifffile and OpenEXR wrote."""

import struct
import sys
import zlib

import cv2
import numpy as np
import OpenEXR
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageOps

from data.images import deep_colours
from data.images.deep_colours import read_deep_colours
from data.images.files import read_photograph
from data.images.formats.opencv_decoder import decode_by_opencv
from data.images.light import decode_levels
from runtime.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 65536, (7, 9, 4), np.uint16)
NO_PREDICTOR, LZW, PACKBITS = 1, 5, 32773
CHUNKY_TIFF = [cv2.IMWRITE_TIFF_PREDICTOR, NO_PREDICTOR, cv2.IMWRITE_TIFF_COMPRESSION]


def as_16_bits(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours.astype(np.float64) * 65535).astype(np.uint16)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("name", "options"), [("a.png", []), ("lzw.tif", [*CHUNKY_TIFF, LZW]), ("packbits.tif", [*CHUNKY_TIFF, PACKBITS])]
)
def test_16_bit_colours_that_opencv_wrote(tmp_path, name, options, channels):
    assert cv2.imwrite(str(tmp_path / name), VALUES[..., [2, 1, 0, 3][:channels]], options)
    colours, remark = read_deep_colours(tmp_path / name)
    np.testing.assert_array_equal(as_16_bits(colours), VALUES[..., :3])
    assert remark == ""


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colours_that_tifffile_wrote(tmp_path, order, planar, compression, channels):
    stored = np.moveaxis(VALUES[..., :channels], -1, 0) if planar == "separate" else VALUES[..., :channels]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, byteorder=order,
                     compression=compression, extrasamples=["unassalpha"] * (channels - 3))  # fmt: skip
    np.testing.assert_array_equal(as_16_bits(read_deep_colours(tmp_path / "a.tif")[0]), VALUES[..., :3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colours_are_upright(tmp_path, orientation):
    tifffile.imwrite(tmp_path / "a.tif", VALUES[..., :3], photometric="rgb",
                     extratags=[(274, "H", 1, orientation, True)])  # fmt: skip
    np.testing.assert_array_equal(
        as_16_bits(read_deep_colours(tmp_path / "a.tif")[0]), turned(VALUES[..., :3], orientation)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colours_of_codecs_that_only_opencv_reads_are_upright(tmp_path, orientation):
    assert cv2.imwrite(str(tmp_path / "a.tif"), VALUES[..., 2::-1], [*CHUNKY_TIFF, LZW])
    stored = (tmp_path / "a.tif").read_bytes()
    tags = int.from_bytes(stored[4:8], "little")  # the place of the tags, which are moved to the end, with one more
    count = int.from_bytes(stored[tags : tags + 2], "little")
    entries = [stored[tags + 2 + 12 * at : tags + 14 + 12 * at] for at in range(count)]
    entries = [entry for entry in entries if entry[:2] != struct.pack("<H", 274)]
    entries.append(struct.pack("<HHIHH", 274, 3, 1, orientation, 0))
    moved = struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=lambda e: e[:2][::-1])) + bytes(4)
    data = stored[:4] + struct.pack("<I", len(stored)) + stored[8:] + moved
    (tmp_path / "a.tif").write_bytes(data)
    colours, remark = read_deep_colours(tmp_path / "a.tif")
    assert remark == ""
    np.testing.assert_array_equal(as_16_bits(colours), turned(VALUES[..., :3], orientation))


def test_colours_of_a_png_are_turned_by_its_exif(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), VALUES[..., 2::-1])
    exif = Image.Exif()
    exif[274] = 6
    data = (tmp_path / "a.png").read_bytes()
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(as_16_bits(read_deep_colours(tmp_path / "a.png")[0]), turned(VALUES[..., :3], 6))


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Each channel turned by Pillow."""
    planes = []
    for plane in np.moveaxis(values, -1, 0):
        image = Image.fromarray(plane)
        image.getexif()[274] = orientation
        planes.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.dstack(planes)


def test_gray_and_portable_pixmaps_have_16_bits_too(tmp_path):
    Image.fromarray(VALUES[..., 0]).save(tmp_path / "gray.png")
    tifffile.imwrite(tmp_path / "with_alpha.tif", VALUES[..., :2], photometric="minisblack", planarconfig="contig",
                     extrasamples=["unassalpha"])  # fmt: skip
    for name in ("gray.png", "with_alpha.tif"):
        colours, remark = read_deep_colours(tmp_path / name)
        np.testing.assert_array_equal(as_16_bits(colours), np.dstack([VALUES[..., 0]] * 3))
        assert remark == ""
    header = f"P6 {VALUES.shape[1]} {VALUES.shape[0]} 65535\n".encode()
    (tmp_path / "a.ppm").write_bytes(header + VALUES[..., :3].astype(">u2").tobytes())
    np.testing.assert_array_equal(as_16_bits(read_deep_colours(tmp_path / "a.ppm")[0]), VALUES[..., :3])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_light_of_exr_files_keeps_its_highlights(tmp_path, kind):
    light = (VALUES[..., :3] / 20_000 - 0.1).astype(kind)  # -0.1 to 3.18
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(tmp_path / "a.exr"))
    colours, _ = read_deep_colours(tmp_path / "a.exr")
    if kind == np.float16:
        np.testing.assert_array_equal(decode_levels(colours).astype(np.float16), light)
    np.testing.assert_allclose(decode_levels(colours), light, rtol=2e-6, atol=1e-7)
    levels, _ = read_photograph(tmp_path / "a.exr")
    np.testing.assert_array_equal(np.rint(colours.clip(0, 1) * np.float32(255)).astype(np.uint8), levels)
    values, _ = read_deep_colours(tmp_path / "a.exr", "srgb")
    np.testing.assert_array_equal(values, light.astype(np.float32))


def test_infinite_light_is_limited_to_half_precision(tmp_path):
    light = np.full((4, 5, 3), np.inf, np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(tmp_path / "a.exr"))
    colours, _ = read_deep_colours(tmp_path / "a.exr")
    np.testing.assert_allclose(decode_levels(colours), 65504, rtol=1e-5)


def test_8_bits_have_no_deep_colours(tmp_path):
    Image.fromarray((VALUES[..., :3] >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    assert read_deep_colours(tmp_path / "a.png") == (None, "")


def test_bits_that_cannot_be_read_are_reported(tmp_path):
    header = f"P6 {VALUES.shape[1]} {VALUES.shape[0]} 1023\n".encode()  # 10 bits, which OpenCV does not scale
    (tmp_path / "a.ppm").write_bytes(header + (VALUES[..., :3] >> 6).astype(">u2").tobytes())
    colours, remark = read_deep_colours(tmp_path / "a.ppm")
    assert colours is None
    assert remark == "only 8 bits of this kind of PPM are read; cut-outs have colours of 8 bits"
    tifffile.imwrite(tmp_path / "cmyk.tif", VALUES, photometric="separated")
    assert read_deep_colours(tmp_path / "cmyk.tif") == (None, remark.replace("PPM", "TIFF"))
    pillow_heif.from_bytes("RGB;16", (64, 64), bytes(64 * 64 * 6)).save(tmp_path / "a.heic")
    assert read_deep_colours(tmp_path / "a.heic") == (None, remark.replace("PPM", "HEIF"))


@pytest.mark.parametrize(
    "decoded",
    [
        None,
        np.full((2, 3), 257, np.uint16),  # one channel
        np.full((3, 2, 3), 257, np.uint16),  # turned
        np.full((2, 3, 3), 1, np.uint8),  # another depth
        np.full((2, 3, 3), 2 * 257 + 255, np.uint16),  # two levels brighter
    ],
)
def test_values_that_disagree_with_pillow_are_not_used(tmp_path, monkeypatch, decoded):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((2, 3, 3), 257, np.uint16))
    monkeypatch.setattr(deep_colours, "decode_by_opencv", lambda path: decoded)
    colours, remark = read_deep_colours(tmp_path / "a.png")
    assert colours is None
    assert remark.startswith("only 8 bits of this kind of PNG are read")


def test_gray_floats_of_pillow_keep_their_values(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.float32([[0.25, 1.5, -1]]))
    colours, remark = read_deep_colours(tmp_path / "a.tif")
    assert colours.tolist() == [[[0.25] * 3, [1.5] * 3, [-1] * 3]]
    assert remark == ""
    light, _ = read_deep_colours(tmp_path / "a.tif", "linear")
    np.testing.assert_allclose(decode_levels(light), colours, rtol=1e-6)


def test_opencv_gives_alpha_last_and_nothing_for_what_it_cannot_decode(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), VALUES[..., [2, 1, 0, 3]])
    np.testing.assert_array_equal(decode_by_opencv(tmp_path / "a.png"), VALUES)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    assert decode_by_opencv(tmp_path / "text.png") is None
    assert decode_by_opencv(tmp_path / "empty.png") is None


def test_deep_pictures_without_opencv_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"^a\.png: pictures of this kind need OpenCV; install opencv-python-headless"):
        decode_by_opencv("a.png")


def test_the_decoders_of_opencv_are_quiet(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", VALUES[..., :3], photometric="rgb", extratags=[(65000, "H", 1, 7, True)])
    level = cv2.utils.logging.getLogLevel()
    assert decode_by_opencv(tmp_path / "a.tif").dtype == np.uint16
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level > cv2.utils.logging.LOG_LEVEL_SILENT
