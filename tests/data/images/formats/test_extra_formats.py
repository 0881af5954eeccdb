"""EXR, TIFF of floats and HEIC: the values of their own libraries, bit for bit, and levels by another's curve."""

import io
import re
import struct
import subprocess
import sys

import numpy as np
import OpenEXR
import pillow_heif
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError
from skimage.color import rgb2xyz
from tiny import ROOT

from data.images.files import (
    images_by_stem,
    opened_image,
    read_gray,
    read_header,
    read_photograph,
    read_rgb,
    read_rgb_profile,
    read_size,
)
from data.images.light import decode_levels, encode_light, photograph_levels
from data.images.masks import read_mask
from data.images.mattes import matte_reading, trimap_reading
from runtime.errors import InputError

LIGHT = np.random.default_rng(0).random((9, 13, 4), np.float32)


def light_of(levels: np.ndarray) -> np.ndarray:
    """Linear light of sRGB levels in [0, 1] by scikit-image: the luminance of grays, whose white is 1."""
    grays = np.repeat(np.atleast_1d(levels).astype(np.float64)[..., None], 3, axis=-1)
    return rgb2xyz(grays[None])[0, ..., 1]


def write_exr(path, channels, **header) -> None:
    channels = {name: np.ascontiguousarray(values) for name, values in channels.items()}  # strides are not honoured
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(path))


def deep_samples(height: int, width: int) -> np.ndarray:
    """Two depths for each pixel."""
    samples = np.empty((height, width), object)
    for place in np.ndindex(samples.shape):
        samples[place] = np.float32([0.25, 0.5])
    return samples


def test_the_curve_is_that_of_scikit_image():
    levels = np.linspace(0, 1, 4097)
    np.testing.assert_allclose(decode_levels(levels), light_of(levels), atol=2e-7)
    np.testing.assert_allclose(encode_light(light_of(levels)), levels, atol=1e-6)


def test_linear_light_becomes_the_nearest_level():
    every = np.arange(256) / 255
    levels, clipped = photograph_levels(light_of(every)[None].astype(np.float32), "linear")
    np.testing.assert_array_equal(levels[0, :, 0], np.arange(256))
    assert clipped == 0
    between = light_of(np.array([100.4, 100.6]) / 255)
    assert photograph_levels(between[None], "linear")[0][0, :, 0].tolist() == [100, 101]


def test_values_outside_the_range_are_clipped_and_counted_and_nan_is_refused():
    values = np.float32([[[-0.5, 0.5, 2.0], [np.inf, 1.0, 0.0]]])
    levels, clipped = photograph_levels(values, "srgb")
    assert levels.tolist() == [[[0, 128, 255], [255, 255, 0]]]
    assert clipped == pytest.approx(3 / 6)
    with pytest.raises(InputError, match=r"a\.exr: expected numbers, found NaN"):
        photograph_levels(np.float32([[np.nan]]), "linear", "a.exr")


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("compression", ["NO", "ZIP", "PIZ", "RLE"])
@pytest.mark.parametrize("channels", ["Y", "A", "RGB", "RGBA"])
def test_exr_values_are_those_that_were_written(tmp_path, kind, compression, channels):
    written = LIGHT[..., : len(channels)].astype(kind)
    written = written[..., 0] if len(channels) == 1 else written
    write_exr(tmp_path / "ä.exr", {channels: written}, compression=getattr(OpenEXR, f"{compression}_COMPRESSION"))
    with opened_image(tmp_path / "ä.exr") as image:
        np.testing.assert_array_equal(image.values, written)
    assert read_size(tmp_path / "ä.exr") == (9, 13)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [3, 4])
def test_tiff_floats_of_colours_are_those_that_were_written(tmp_path, kind, order, planar, compression, channels):
    written = LIGHT[..., :channels].astype(kind)
    stored = np.moveaxis(written, -1, 0) if planar == "separate" else written
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, byteorder=order,
                     compression=compression, extrasamples=["unassalpha"] * (channels - 3))  # fmt: skip
    with opened_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.values, written.astype(np.float32))
    levels, remark = read_photograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(levels, np.rint(written[..., :3].astype(np.float32) * np.float32(255)))
    transparent = (
        "; has transparent pixels, as if it was cut out already; its colours are used as they are stored there"
    )
    assert remark == "float values read as sRGB levels (see --transfer)" + (transparent if channels == 4 else "")


@pytest.mark.parametrize("alpha", [1, 2])
def test_an_alpha_of_floats_above_one_is_opaque(tmp_path, alpha):
    tifffile.imwrite(tmp_path / "a.tif", np.full((3, 4, 4), alpha, np.float32), photometric="rgb",
                     extrasamples=["unassalpha"])  # fmt: skip
    levels, remark = read_photograph(tmp_path / "a.tif")
    assert levels.min() == 255
    assert "transparent" not in remark


def test_a_damaged_header_is_named_by_what_tifffile_found(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II+\0\x04" + bytes(27))
    with pytest.raises(tifffile.TiffFileError) as found:
        tifffile.TiffFile(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif: not a readable image \({re.escape(str(found.value))}\)"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_floats_are_upright(tmp_path, orientation):
    stored = (np.arange(6 * 4 * 3).reshape(6, 4, 3) / 72).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    eight = Image.fromarray(np.rint(stored * 255).astype(np.uint8))
    exif = eight.getexif()
    exif[274] = orientation
    eight.save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), read_rgb(tmp_path / "b.png"))
    assert read_size(tmp_path / "a.tif") == read_size(tmp_path / "b.png")


def test_a_photograph_of_floats_is_read_by_its_transfer_and_says_so(tmp_path):
    values = LIGHT[..., :3] * np.float32(1.25)
    write_exr(tmp_path / "a.exr", {"RGB": values})
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    encoded = np.interp(values.clip(0, 1), light_of(np.linspace(0, 1, 100_001)), np.linspace(0, 1, 100_001))
    expected = {"linear": np.rint(encoded * 255), "srgb": np.rint(values.clip(0, 1) * 255)}
    share = float(f"{100 * (values > 1).mean():.1g}")
    for name, usual in (("a.exr", "linear"), ("a.tif", "srgb")):
        for asked in (None, "linear", "srgb"):
            levels, remark = read_photograph(tmp_path / name, asked)
            taken = asked or usual
            np.testing.assert_array_equal(levels, expected[taken])
            assert ("linear light, encoded as sRGB" if taken == "linear" else "sRGB levels") in remark
            assert f"{share:g} % of the values are outside 0 to 1 and are clipped for the model" in remark
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.exr"), expected["linear"])


def test_mattes_trimaps_and_masks_of_floats_are_no_light(tmp_path):
    alpha = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    trimap = np.float32([[0, 0.5, 1]])
    for name, picture in (("alpha", alpha), ("trimap", trimap)):
        write_exr(tmp_path / f"{name}_y.exr", {"Y": picture})
        write_exr(tmp_path / f"{name}_rgb.exr", {"RGB": np.repeat(picture[..., None], 3, axis=-1)})
        tifffile.imwrite(tmp_path / f"{name}_half.tif", picture.astype(np.float16))
    for kind in ("y.exr", "rgb.exr", "half.tif"):
        np.testing.assert_array_equal(matte_reading(tmp_path / f"alpha_{kind}").values, np.rint(alpha * 255), kind)
        assert trimap_reading(tmp_path / f"trimap_{kind}").values.tolist() == [[0, 128, 255]], kind
        assert read_mask(tmp_path / f"alpha_{kind}").kind == "soft"


def test_a_matte_of_floats_on_another_scale_is_refused(tmp_path):
    write_exr(tmp_path / "a.exr", {"RGB": np.full((4, 4, 3), 255, np.float32)})
    with pytest.raises(InputError, match=r"a\.exr: expected floats in 0\.\.1 of the alpha"):
        matte_reading(tmp_path / "a.exr")


def test_an_exr_shows_its_display_window(tmp_path):
    stored = LIGHT[:4, :5, 0]
    header = {"dataWindow": (np.int32([2, 1]), np.int32([6, 4])), "displayWindow": (np.int32([0, 0]), np.int32([4, 9]))}
    write_exr(tmp_path / "a.exr", {"Y": stored}, **header)
    expected = np.zeros((10, 5), np.float32)
    expected[1:5, 2:5] = stored[:, :3]
    with opened_image(tmp_path / "a.exr") as image:
        np.testing.assert_array_equal(image.values, expected)
    write_exr(tmp_path / "a.exr", {"RGB": LIGHT[:4, :5, :3]}, **header)
    expected = np.zeros((10, 5, 3), np.float32)
    expected[1:5, 2:5] = LIGHT[:4, :3, :3]
    with opened_image(tmp_path / "a.exr") as image:
        np.testing.assert_array_equal(image.values, expected)


@pytest.mark.parametrize("window", ["dataWindow", "displayWindow"])
@pytest.mark.parametrize("corners", [(0, 0, -1, 8), (5, 0, 4, 8), (0, 0, 12, -1), (0, 0, 2**30, 2**30)])
def test_empty_and_boundless_windows_are_refused(tmp_path, capfd, window, corners):
    write_exr(tmp_path / "a.exr", {"Y": LIGHT[..., 0]})
    start, name, rest = (tmp_path / "a.exr").read_bytes().partition(window.encode() + b"\0box2i\0\x10\0\0\0")
    (tmp_path / "a.exr").write_bytes(start + name + struct.pack("<4i", *corners) + rest[16:])
    for read in (read_size, read_rgb):
        with pytest.raises(InputError, match=r"a\.exr: not a readable image"):
            read(tmp_path / "a.exr")


def test_the_first_part_with_a_picture_is_taken(tmp_path):
    deep = {"name": "deep", "type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}
    parts = [
        OpenEXR.Part({"name": "depth"}, {"Z": LIGHT[..., 0].copy()}),
        OpenEXR.Part(deep, {"Y": deep_samples(9, 13)}),
        OpenEXR.Part({"name": "beauty"}, {"RGB": LIGHT[..., :3].copy(), "id": np.zeros((9, 13), np.uint32)}),
    ]
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    with opened_image(tmp_path / "a.exr") as image:
        np.testing.assert_array_equal(image.values, LIGHT[..., :3])


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"Z": LIGHT[..., 0]}, "expected an EXR with channels R, G and B, or Y, of one sample per pixel, found Z"),
        ({"beauty.R": LIGHT[..., 0], "beauty.G": LIGHT[..., 1]}, "found beauty.G, beauty.R"),
        ({"Y": np.zeros((3, 4), np.uint32)}, "expected channels of half or float, found uint32"),
    ],
)
def test_an_exr_without_a_picture_is_refused_by_its_channels(tmp_path, channels, message):
    write_exr(tmp_path / "a.exr", channels)
    with pytest.raises(InputError, match=message):
        read_rgb(tmp_path / "a.exr")


@pytest.mark.parametrize("kind", ["deepscanline", "deeptile"])
def test_an_exr_of_several_depths_a_pixel_is_refused(tmp_path, kind):
    header = {"type": getattr(OpenEXR, kind), "compression": OpenEXR.ZIPS_COMPRESSION}
    header |= {"tiles": OpenEXR.TileDescription()} if kind == "deeptile" else {}
    OpenEXR.File(header, dict.fromkeys("RGB", deep_samples(3, 4))).write(str(tmp_path / "a.exr"))
    with pytest.raises(InputError, match="of one sample per pixel, found B, G, R"):
        read_rgb(tmp_path / "a.exr")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_off_exr_is_named(tmp_path, share, capfd):
    write_exr(tmp_path / "a.exr", {"RGB": np.repeat(LIGHT[..., :3], 20, axis=0)})
    data = (tmp_path / "a.exr").read_bytes()
    (tmp_path / "a.exr").write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"a\.exr: not a readable image \(its pixels are damaged or cut off\)"):
        read_rgb(tmp_path / "a.exr")


def test_a_part_behind_a_damaged_one_is_not_taken_for_the_part_before_it(tmp_path, capfd):
    """The library leaves out the damaged part, so that the others have lower numbers."""
    depth, layers = np.full((9, 13), 7, np.float32), {"b": LIGHT[..., 0].copy(), "c": LIGHT[..., 1].copy()}
    parts = [OpenEXR.Part({"name": "a", "compression": OpenEXR.NO_COMPRESSION}, {"Z": depth})]
    parts += [OpenEXR.Part({"name": name}, {"Y": layer}) for name, layer in layers.items()]
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    data = (tmp_path / "a.exr").read_bytes()
    row = depth[0].tobytes()
    start = data.index(row) - 12  # of the chunk: the numbers of its part and row, and its length
    (tmp_path / "a.exr").write_bytes(data[:start] + b"\xff" * 12 + data[start + 12 :])
    with OpenEXR.File(str(tmp_path / "a.exr")) as file:
        assert [part.name() for part in file.parts] == ["b", "c"]
    with pytest.raises(InputError, match="its pixels are damaged or cut off"):
        read_rgb(tmp_path / "a.exr")


@pytest.mark.parametrize(
    ("picture", "settings", "message"),
    [
        (LIGHT[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}, "with 2 channels and 1 pictures"),
        (np.stack([LIGHT[..., :3]] * 2), {"photometric": "rgb"}, "with 3 channels and 2 pictures is not read"),
    ],
)
def test_other_tiffs_of_floats_are_refused_in_a_plain_line(tmp_path, picture, settings, message):
    tifffile.imwrite(tmp_path / "a.tif", picture, **settings)
    with pytest.raises(InputError, match=message):
        read_rgb(tmp_path / "a.tif")


def test_integers_that_pillow_cannot_read_are_no_floats(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.uint64([[0, 257, 65535]]))
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.tif", formats=["TIFF"])
    assert read_gray(tmp_path / "a.tif").tolist() == [[0, 1, 255]]


def test_a_strip_that_unpacks_to_more_than_the_picture_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4000, 10, 3), np.float32), photometric="rgb", compression="zlib",
                     rowsperstrip=4000)  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(4)
        file.pages[0].tags["RowsPerStrip"].overwrite(4)
    with pytest.raises(InputError, match="a strip is longer than its rows"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_read_upright(tmp_path, monkeypatch, orientation):
    y, x = np.mgrid[:48, :80]
    picture = Image.fromarray(np.dstack([x * 3, y * 5, 255 - x]).astype(np.uint8))  # smooth, so that it compresses well
    exif = picture.getexif()
    exif[274] = orientation
    with monkeypatch.context() as patch:  # pillow_heif writes orientations in Pillow only, and registers its reader too
        patch.setitem(Image.OPEN, "HEIF", Image.OPEN["HEIF"])
        pillow_heif.register_heif_opener()
        picture.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=100, chroma=444)
    picture.save(tmp_path / "a.png", exif=exif.tobytes())
    found, expected = (read_rgb(tmp_path / f"a{suffix}") for suffix in (".heic", ".png"))
    assert found.shape == expected.shape == (*read_size(tmp_path / "a.heic"), 3)
    assert np.abs(found.astype(int) - expected).max() <= 6


@pytest.mark.parametrize("suffix", [".exr", ".tif", ".tiff", ".heic", ".heif", ".hif"])
def test_a_folder_lists_the_suffixes_of_these_formats(tmp_path, suffix):
    path = tmp_path / f"a{suffix.upper()}"
    if suffix == ".exr":
        write_exr(path, {"Y": np.full((64, 64), 1, np.float32)})
    elif suffix.startswith(".t"):
        tifffile.imwrite(path, np.full((64, 64), 1, np.float16))
    else:
        pillow_heif.from_pillow(Image.new("RGB", (64, 64), "white")).save(path)
    assert images_by_stem(tmp_path) == {"a": path}
    assert read_rgb(path).min() == 255


@pytest.mark.parametrize(("mode", "deep"), [("RGB", False), ("RGB;16", True)])
def test_headers_say_whether_heic_has_more_than_eight_bits(tmp_path, mode, deep):
    values = np.full((64, 64, 3), 40_000 if deep else 156, np.uint16 if deep else np.uint8)
    pillow_heif.from_bytes(mode, (64, 64), values.tobytes()).save(tmp_path / "a.heic")
    assert read_header(tmp_path / "a.heic")[3:] == ("HEIF", "RGB", deep)


def test_heic_is_read_from_memory(monkeypatch):
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(file)
    with Image.open(file, formats=["HEIF"]) as image:
        assert image.size == (64, 48)
        np.testing.assert_allclose(np.asarray(image)[20, 30], (200, 100, 50), atol=3)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"^the file: HEIC files need pillow-heif"):
        Image.open(file, formats=["HEIF"])


def test_profiles_of_rgb_are_found_and_those_of_others_are_not(tmp_path):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    colours = Image.fromarray(np.zeros((4, 5, 3), np.uint8))
    for name, picture, profile, expected in (
        ("rgb.png", colours, srgb, srgb),
        ("rgb.jpg", colours, srgb, srgb),
        ("none.png", colours, None, None),
        ("lab.png", colours, lab, None),
        ("palette.png", colours.convert("P"), srgb, srgb),
        ("palette_alpha.tif", Image.new("PA", colours.size), srgb, srgb),
        ("rgba.png", colours.convert("RGBA"), srgb, srgb),
        ("gray.png", colours.convert("L"), srgb, None),
        ("cmyk.jpg", colours.convert("CMYK"), srgb, None),
    ):
        picture.save(tmp_path / name, icc_profile=profile)
        assert read_rgb_profile(tmp_path / name) == expected, name
    tifffile.imwrite(tmp_path / "a.tif", LIGHT[..., :3], photometric="rgb", iccprofile=srgb)
    assert read_rgb_profile(tmp_path / "a.tif") == srgb


def test_a_library_that_is_missing_is_named_in_one_line(tmp_path):
    write_exr(tmp_path / "a.exr", {"Y": LIGHT[..., 0]})
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(tmp_path / "a.heic")
    code = (
        "import sys\n"
        "sys.modules['OpenEXR'] = sys.modules['pillow_heif'] = None\n"
        "from data.images.files import read_rgb\n"
        "from data.images.writing import check_writable\n"
        "from pathlib import Path\n"
        "for use in (read_rgb, read_rgb, lambda path: check_writable(Path('out.exr'), None)):\n"
        "    try: use(sys.argv.pop())\n"
        "    except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, "-", tmp_path / "a.heic", tmp_path / "a.exr"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 3
    libraries = (("a.exr", "EXR", "OpenEXR"), ("a.heic", "HEIC", "pillow-heif"), ("out.exr", "EXR", "OpenEXR"))
    for line, (name, kind, library) in zip(lines, libraries, strict=True):
        assert f"{name}: {kind} files need {library}; install it with `pip install -r requirements/formats.txt`" in line


@pytest.mark.parametrize(("names", "mode"), [("Y", "F"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("A", "F")])
def test_headers_have_size_and_mode_without_the_pixels(tmp_path, names, mode):
    path = tmp_path / "a.exr"
    write_exr(path, {name: LIGHT[..., index] for index, name in enumerate(names)})
    header = read_header(path)
    assert (header.size, header.format, header.mode, header.deep) == ((9, 13), "EXR", mode, True)


def test_the_channels_of_all_parts_count_for_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.exr"
    write_exr(path, {name: LIGHT[..., index] for index, name in enumerate(["R", "G", "B", "depth"])})
    monkeypatch.setattr("data.images.formats.extra_formats.MOST_BYTES", 9 * 13 * 4 * 4)
    assert read_rgb(path).shape == (9, 13, 3)
    monkeypatch.setattr("data.images.formats.extra_formats.MOST_BYTES", 9 * 13 * 4 * 4 - 1)
    with pytest.raises(InputError, match="its channels take 1,872 bytes, over the limit of 1,871"):
        read_rgb(path)


@pytest.mark.parametrize("sampling", [(2, 1), (1, 2)])
def test_a_layer_of_fewer_samples_is_not_taken_for_a_picture(tmp_path, sampling):
    path = tmp_path / "a.exr"
    pixels = np.ascontiguousarray(LIGHT[: 8 // sampling[1], : 12 // sampling[0], 0])
    channel = OpenEXR.Channel("Y", pixels, sampling[0], sampling[1])
    OpenEXR.File(
        {"type": OpenEXR.scanlineimage, "dataWindow": (np.int32([0, 0]), np.int32([11, 7]))}, {"Y": channel}
    ).write(str(path))
    with pytest.raises(InputError, match="of one sample per pixel, found Y"):
        read_rgb(path)


@pytest.mark.parametrize("shift", [(0, 0), (3, 2), (-4, -1), (15, 0), (0, -11), (40, 0)])
def test_windows_anywhere_in_the_plane(tmp_path, shift):
    """The picture is 13 x 9 at (100, 50); the stored window of the same size is shifted against it, or beside it."""
    corner, size = np.int32([100, 50]), np.int32([12, 8])
    path = tmp_path / "a.exr"
    stored, expected = LIGHT[..., 0], np.zeros((9, 13), np.float32)
    for row, column in np.ndindex(9, 13):
        if 0 <= row + shift[1] < 9 and 0 <= column + shift[0] < 13:
            expected[row + shift[1], column + shift[0]] = stored[row, column]
    windows = {"displayWindow": (corner, corner + size), "dataWindow": (corner + shift, corner + shift + size)}
    write_exr(path, {"Y": stored}, **{name: tuple(map(np.int32, window)) for name, window in windows.items()})
    with opened_image(path) as image:
        np.testing.assert_array_equal(image.values, expected)
