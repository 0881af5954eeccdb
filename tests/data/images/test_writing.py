"""Pictures as they are written: every format and depth read back by another library, bit for bit."""

import sys

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image, ImageCms
from skimage.color import rgb2xyz

from data.images.files import read_rgb
from data.images.writing import DEPTHS_OF, check_writable, quantised, write_picture
from runtime.errors import InputError

PICTURE = np.random.default_rng(0).random((37, 23, 4), np.float32)
PICTURE[0, 0], PICTURE[0, 1] = 0, 1
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CASES = [(suffix, bits, channels) for suffix, held in DEPTHS_OF.items() for bits in held for channels in (1, 3, 4)]


def read_back(path, suffix: str) -> np.ndarray:
    """The file by a library that did not write it where there is one; EXR by channels."""
    if suffix in (".tif", ".tiff"):
        return tifffile.imread(path)
    if suffix == ".exr":
        planes = OpenEXR.File(str(path), separate_channels=True).channels()
        names = [name for name in "YRGBA" if name in planes]
        return np.stack([planes[name].pixels for name in names], axis=-1).squeeze()
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def light_of(levels: np.ndarray) -> np.ndarray:
    """Linear light of sRGB levels by scikit-image."""
    grays = np.repeat(levels.astype(np.float64).reshape(-1, 1, 1), 3, axis=-1)
    return rgb2xyz(grays)[..., 1].reshape(levels.shape)


@pytest.mark.parametrize(("suffix", "bits", "channels"), CASES)
def test_floats_are_rounded_once_to_the_depth(tmp_path, suffix, bits, channels):
    picture = PICTURE[..., 0] if channels == 1 else PICTURE[..., :channels]
    path = tmp_path / "new" / f"a{suffix}"
    write_picture(path, picture, bits, PROFILE)
    found = read_back(path, suffix)
    if suffix == ".exr" and channels > 1:
        expected = light_of(picture[..., :3])
        expected = np.dstack([expected * picture[..., 3:], picture[..., 3]]) if channels == 4 else expected
        assert found.dtype == (np.float16 if bits == 16 else np.float32)
        np.testing.assert_allclose(found, expected, atol=6e-4 if bits == 16 else 5e-7)
        return
    if suffix == ".exr":
        expected = picture.astype(np.float16 if bits == 16 else np.float32)
    elif bits == 32:
        expected = picture
    else:
        expected = np.rint(picture.astype(np.float64) * (2**bits - 1)).astype(f"uint{bits}")
    if suffix == ".webp" and channels == 1:  # which has no gray
        found = found[..., 0]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("suffix", "bits", "channels"), CASES)
def test_levels_of_8_bits_keep_their_share_of_full_scale(tmp_path, suffix, bits, channels):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = levels if channels == 1 else np.dstack([levels] * channels)
    write_picture(tmp_path / f"a{suffix}", picture, bits)
    found = read_back(tmp_path / f"a{suffix}", suffix)
    gray = found if found.ndim == 2 else found[..., -1 if channels == 4 else 0]
    if suffix == ".exr" and channels == 3:
        np.testing.assert_allclose(gray, light_of(levels / 255), atol=6e-4 if bits == 16 else 5e-7)
    elif gray.dtype.kind == "u":
        np.testing.assert_array_equal(gray, levels.astype(int) * (2**bits - 1) // 255)
    else:
        np.testing.assert_array_equal(gray, (levels / np.float32(255)).astype(gray.dtype))


@pytest.mark.parametrize(("suffix", "bits", "channels"), CASES)
def test_the_profile_goes_along_with_colours_only(tmp_path, suffix, bits, channels):
    picture = PICTURE[..., 0] if channels == 1 else PICTURE[..., :channels]
    path = tmp_path / f"a{suffix}"
    write_picture(path, picture, bits, PROFILE)
    if suffix == ".exr":
        return
    if suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            tag = file.pages[0].tags.get(34675)
            found = None if tag is None else tag.value
            assert file.pages[0].extrasamples == ((2,) if channels == 4 else ())  # not premultiplied
            assert file.pages[0].photometric.name == ("MINISBLACK" if channels == 1 else "RGB")
            assert file.pages[0].compression.name == "ADOBE_DEFLATE"
            assert (file.pages[0].software, file.pages[0].description) == ("DINOMatte", "")
    else:
        with Image.open(path) as image:
            found = image.info.get("icc_profile")
    assert found == (None if channels == 1 else PROFILE)


def test_a_16_bit_png_with_a_profile_is_sound_to_pillow_and_opencv(tmp_path):
    write_picture(tmp_path / "a.png", PICTURE, 16, PROFILE)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(PICTURE * 65535.0).astype(np.uint16) >> 8)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.asarray(image)[..., :3])


def test_rounding_is_to_the_nearest_level_of_the_value_itself():
    halfway = np.float32([0.5 / 65535, 1.5 / 65535, 100.499 / 65535, 100.501 / 65535, 1 - 0.499 / 65535])
    assert quantised(halfway[2:], 16).tolist() == [100, 101, 65535]
    every = np.arange(65536) / 65535
    np.testing.assert_array_equal(quantised(every.astype(np.float32), 16), np.arange(65536))
    assert quantised(np.float32([-0.3, 1.3, 0.5]), 8).tolist() == [0, 255, 128]
    assert quantised(np.float64([-np.inf, np.inf, 0.25]), 16).tolist() == [0, 65535, 16384]
    assert quantised(np.float32([-0.25, 1.5]), 32).tolist() == [-0.25, 1.5]


def test_colours_under_transparent_pixels_survive_webp(tmp_path):
    picture = np.full((8, 8, 4), (200, 100, 50, 0), np.uint8)
    write_picture(tmp_path / "a.webp", picture)
    with Image.open(tmp_path / "a.webp") as image:
        np.testing.assert_array_equal(np.asarray(image), picture)


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        ("a.jpg", None, "JPEG changes a matte's known 0 and 255; results are written as .png, .tif"),
        ("a.jpeg", None, "JPEG changes a matte's known 0 and 255; results"),
        ("a.JPE", None, "JPEG changes a matte's known 0 and 255; results"),
        ("a.jfif", None, "JPEG changes a matte's known 0 and 255; results"),
        ("a.bmp", None, "results are written as .png, .tif, .tiff, .webp, .exr; use one of these suffixes"),
        ("a", None, "results are written as .png"),
        ("a.png", 32, ".png supports 8 or 16 bits, not 32; .tif, .tiff, .exr support 32"),
        ("a.webp", 16, ".webp supports 8 bits, not 16; .png, .tif, .tiff, .exr support 16"),
        ("a.exr", 8, ".exr supports 16 or 32 bits, not 8; .png, .tif, .tiff, .webp support 8"),
    ],
)
def test_formats_and_depths_that_are_not_written_are_named(tmp_path, name, bits, message):
    with pytest.raises(InputError) as caught:
        check_writable(tmp_path / name, bits)
    assert message in str(caught.value)
    assert ("JPEG" in str(caught.value)) == name.lower().startswith("a.j")
    with pytest.raises(InputError):
        write_picture(tmp_path / name, PICTURE, bits)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_wide_for_webp_is_refused(tmp_path):
    with pytest.raises(InputError, match="WebP supports at most 16383 pixels per side"):
        write_picture(tmp_path / "a.webp", np.zeros((1, 16384), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 16), (".tif", 16), (".exr", 16), (".webp", 8)])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, suffix, bits):
    write_picture(tmp_path / f"a{suffix}", PICTURE, bits)
    before = (tmp_path / f"a{suffix}").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.files.os.replace", fail)
    with pytest.raises(InputError, match=f"a{suffix}: cannot write: No space left on device"):
        write_picture(tmp_path / f"a{suffix}", PICTURE[::-1], bits)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


LEVELS = np.uint8([[[200, 100, 7, 51], [255, 1, 90, 128], [9, 8, 7, 0], [10, 20, 30, 255]]])  # alpha 0.2, 0.502, 0, 1
MULTIPLIED = [[[40, 20, 1, 51], [128, 1, 45, 128], [0, 0, 0, 0], [10, 20, 30, 255]]]  # by hand: 7 / 5 = 1.4 -> 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_premultiplied_levels_are_rounded_once(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(path, LEVELS, premultiplied=True)
    assert read_back(path, suffix).tolist() == MULTIPLIED
    write_picture(path, LEVELS, premultiplied=False)
    assert read_back(path, suffix).tolist() == LEVELS.tolist()
    for picture in (LEVELS[..., :3], LEVELS[..., 0]):  # without alpha there is nothing to multiply by
        write_picture(str(path), picture, premultiplied=True)
        found = read_back(path, suffix)
        assert (found[..., 0] if found.ndim > picture.ndim else found).tolist() == picture.tolist()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_premultiplied_floats_are_rounded_once_to_16_bits(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_picture(path, PICTURE, 16, premultiplied=True)
    alpha = PICTURE[..., 3:].astype(np.float64)
    expected = np.rint(np.dstack([PICTURE[..., :3] * alpha, alpha]) * 65535)
    found = read_back(path, suffix).astype(np.float64)
    assert np.abs(found - expected).max() <= 1  # float32 against float64
    assert (found != expected).mean() < 0.01
    assert PICTURE[0, 1].tolist() == [1, 1, 1, 1]  # the array of the caller is left alone


def test_a_tiff_says_whether_it_is_premultiplied_so_that_pillow_divides(tmp_path):
    levels = LEVELS[:, :3]  # another number of columns than of channels
    for premultiplied, extra_samples in ((True, 1), (False, 2), (None, 2)):
        path = tmp_path / "a.tif"
        write_picture(path, levels, premultiplied=premultiplied)
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].tags[338].value in (extra_samples, (extra_samples,))
        with Image.open(path) as image:
            found = np.asarray(image.convert("RGBA")).astype(int)
        shown = levels[..., 3] > 0
        np.testing.assert_array_equal(found[..., 3], levels[..., 3])
        assert np.abs(found - levels)[shown].max() <= (3 if premultiplied else 0)  # 1.4 was rounded to 1: 5 for 7


def test_exr_is_premultiplied_and_refuses_not_to_be(tmp_path):
    for premultiplied in (None, True):
        write_picture(tmp_path / "a.exr", LEVELS, 32, premultiplied=premultiplied)
        found = read_back(tmp_path / "a.exr", ".exr")
        light = light_of(LEVELS[0, :, :3] / 255)
        np.testing.assert_allclose(found[:, :3], light * (LEVELS[0, :, 3:] / 255), atol=1e-6)
    with pytest.raises(InputError, match=r"a\.exr: EXR has colours that are multiplied by alpha, by its specification"):
        write_picture(tmp_path / "a.exr", LEVELS, 32, premultiplied=False)


@pytest.mark.parametrize("suffix", [".PNG", ".Tif", ".TIFF", ".WebP", ".EXR"])
def test_the_case_of_a_suffix_does_not_matter(tmp_path, suffix):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_picture(tmp_path / f"a{suffix}", levels)
    found = read_back(tmp_path / f"a{suffix}", suffix.lower())
    if suffix == ".EXR":
        np.testing.assert_array_equal(found, (levels / np.float32(255)).astype(np.float16))
    else:
        np.testing.assert_array_equal(found[..., 0] if found.ndim == 3 else found, levels)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF"])
def test_a_missing_library_for_tiff_is_named_before_the_work(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"TIFF needs the package tifffile; install it, or name the output \*\.png"):
        check_writable(tmp_path / f"a{suffix}", 16)
    check_writable(tmp_path / "a.png", 16)


def test_a_missing_library_for_exr_is_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(InputError, match=r"a\.exr: EXR files need OpenEXR"):
        check_writable(tmp_path / "a.exr", 16)


def test_a_png_that_opencv_cannot_encode_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: (False, np.zeros(0, np.uint8)))
    with pytest.raises(MemoryError, match="a PNG could not be encoded"):
        write_picture(tmp_path / "a.png", PICTURE, 16)
    assert list(tmp_path.iterdir()) == []


def test_the_widest_picture_of_webp_and_wider_ones_of_other_formats_are_written(tmp_path):
    write_picture(tmp_path / "a.webp", np.zeros((1, 16383), np.uint8))
    write_picture(tmp_path / "a.png", np.zeros((1, 16384), np.uint8))
    for name, width in (("a.webp", 16383), ("a.png", 16384)):
        with Image.open(tmp_path / name) as image:
            assert image.size == (width, 1)
