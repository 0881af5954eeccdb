"""Pictures in memory, of every type and of every mode of PIL, with results worked out by hand."""

import io
from fractions import Fraction

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image

from data.images import arrays
from data.images.arrays import deep_colours_of, mask_of, rgb_of, trimap_of
from runtime.errors import InputError

COLOURS = np.uint8([[[10, 20, 30], [40, 50, 60]]])


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.uint8([[7, 200]]), [[7] * 3, [200] * 3]),
        (np.uint8([[[7], [200]]]), [[7] * 3, [200] * 3]),
        (np.array([[False, True]]), [[0] * 3, [255] * 3]),
        (COLOURS, COLOURS[0]),
        (np.dstack([COLOURS, np.uint8([[0, 9]])]), COLOURS[0]),
        (np.uint16([[128, 129]]), [[0] * 3, [1] * 3]),  # a level is 257, so 128.5 is half a level
        (np.uint16([[51528, 51529]]), [[200] * 3, [201] * 3]),  # 200.5 levels are 51528.5
        (np.float64([[-0.001, 1.001]]), [[0] * 3, [255] * 3]),
        (np.float32([[0.25, 0.75]]), [[64] * 3, [191] * 3]),  # 63.75 and 191.25
    ],
)
def test_arrays_of_each_type_and_shape_are_photographs(picture, expected):
    found = rgb_of(picture)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [expected])


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.uint8([[7, 200]]), [[7] * 3, [200] * 3]),
        (np.array([[False, True]]), [[0] * 3, [255] * 3]),
        (np.dstack([COLOURS, np.uint8([[0, 9]])]), COLOURS[0]),
        (Image.fromarray(COLOURS), COLOURS[0]),
        (np.uint16([[13107, 65535]]), [[0.2] * 3, [1] * 3]),
        (np.uint16([[[13107, 26214, 39321, 1], [0, 1, 65535, 2]]]), [[0.2, 0.4, 0.6], [0, 1 / 65535, 1]]),
        (np.float64([[-0.001, 1.001, 0.3]]), [[0] * 3, [1] * 3, [0.3] * 3]),
        (Image.fromarray(np.float32([[0, 0.7]])), [[0] * 3, [0.7] * 3]),
    ],
)
def test_deep_colours_keep_the_depth_of_16_bits_and_floats(picture, expected):
    found = deep_colours_of(picture)
    is_deep = np.asarray(picture).dtype in (np.uint16, np.float32, np.float64)
    assert found.dtype == (np.float32 if is_deep else np.uint8)
    np.testing.assert_array_equal(found, np.array([expected], found.dtype))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pil_images_of_each_mode_are_photographs_masks_and_trimaps(mode):
    """Black and white, in the full scale of the mode."""
    if mode in ("I;16", "I", "F"):
        white = 1 if mode == "F" else 65535
        image = Image.fromarray(np.array([[0, white]], {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(np.uint8([[0, 255]])).convert("RGB").convert(mode)
    assert image.mode == mode
    np.testing.assert_array_equal(rgb_of(image), [[[0] * 3, [255] * 3]])
    np.testing.assert_array_equal(mask_of(image), [[0, 1]])
    np.testing.assert_array_equal(trimap_of(image), [[0, 255]])


def test_an_orientation_is_applied():
    image = Image.fromarray(np.uint8([[1, 2, 3], [4, 5, 6]]))
    image.getexif()[0x0112] = 6  # the stored picture is to be turned by a quarter clockwise
    assert rgb_of(image)[..., 0].tolist() == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize(
    ("picture", "inside"),
    [
        (np.uint8([[0, 7]]), [0, 1]),
        (np.uint16([[0, 1]]), [0, 1]),
        (np.int64([[0, 70000]]), [0, 1]),
        (np.uint8([[0, 0]]), [0, 0]),
        (np.uint8([[100, 200]]), [100 / 255, 200 / 255]),
        (np.uint8([[0, 102, 255]]), [0, 0.4, 1]),
        (np.uint8([[0, 1, 2]]), [0, 1, 1]),  # labels
        (np.uint16([[0, 26214, 65535]]), [0, 0.4, 1]),
        (np.float32([[-0.0009, 0.3, 1.0009]]), [0, np.float32(0.3), 1]),
        (np.float64([[0, 0.3]]), [0, np.float32(0.3)]),
        (np.array([[False, True]]), [0, 1]),
    ],
)
def test_arrays_of_each_type_are_masks(picture, inside):
    found = mask_of(picture)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([inside]))


@pytest.mark.parametrize(("least", "inside"), [(127, [1, 127 / 255]), (128, [0, 1])])
def test_a_pil_image_more_than_half_transparent_is_a_cut_out(least, inside):
    pixels = np.uint8([[[0, 0, 0, 255], [255, 255, 255, least]]])
    np.testing.assert_array_equal(mask_of(Image.fromarray(pixels)), np.float32([inside]))


@pytest.mark.parametrize(
    "values",
    [[0, 0.5, 1], [-0.1, 0.5, 1.1], [-0.05, 0.5, 1], [0, 0.5, 1.05], [0, 128, 255]],
)
def test_trimaps_of_floats_may_exceed_their_range_by_resizing(values, recwarn):
    assert trimap_of(np.array([values], np.float64)).tolist() == [[0, 128, 255]]
    assert len(recwarn) == (values[1] == 128)


@pytest.mark.parametrize("values", [[-0.11, 0.5, 1], [0, 0.5, 1.11], [0, 0.5, np.nan]])
def test_floats_far_outside_are_no_trimap(values):
    with pytest.raises(InputError, match="mine: expected a trimap"):
        trimap_of(np.array([values], np.float64), "mine")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_gray_channels_are_a_trimap_or_mask_and_colours_are_neither(kind):
    full = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[kind]
    gray = np.repeat(np.array([[[0], [0.502], [1]]]) * full, 3, axis=2).astype(kind)
    opaque = np.dstack([gray, np.full(gray.shape[:2], full, kind)])
    for picture in (gray, opaque):
        assert trimap_of(picture).tolist() == [[0, 128, 255]]
        assert mask_of(picture)[0, [0, 2]].tolist() == [0, 1]
    colours = gray * np.array([1, 0, 0], kind)
    for convert, what in ((trimap_of, "trimap"), (mask_of, "mask")):
        with pytest.raises(InputError, match=f"mine: expected a (gray )?{what}"):
            convert(colours, "mine")
        if kind != np.uint8:
            cut_out = np.dstack([gray, gray[..., 0]])
            with pytest.raises(InputError, match=f"mine: expected a gray {what}, found channels that differ; give the"):
                convert(cut_out, "mine")


def test_the_mask_of_a_cut_out_is_its_alpha_channel_in_an_array_too():
    """A picture as rembg returns it."""
    cut_out = np.uint8([[[200, 10, 10, 0], [9, 9, 9, 255], [250, 0, 80, 0]]])
    np.testing.assert_array_equal(mask_of(cut_out), np.float32([[0, 1, 0]]))
    np.testing.assert_array_equal(mask_of(Image.fromarray(cut_out)), np.float32([[0, 1, 0]]))


def test_a_palette_of_colours_is_a_label_map_in_memory_too():
    image = Image.fromarray(np.uint8([[0, 1, 2]]))
    image.putpalette([0, 0, 0, 0, 0, 128, 128, 0, 0])  # the first channel of label 1 is 0
    assert image.mode == "P"
    np.testing.assert_array_equal(mask_of(image), np.float32([[0, 1, 1]]))


def test_the_choice_of_a_channel_is_reported():
    trimap = np.uint8([[0, 128, 255]])
    with pytest.warns(UserWarning, match="mine: read from the alpha channel"):
        found = trimap_of(np.dstack([trimap * 0, trimap * 0, trimap * 0, trimap]), "mine")
    np.testing.assert_array_equal(found, trimap)


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ([[0, 1]], "expected a numpy array or a PIL image, got list$"),
        (Fraction(1, 2), r"got fractions\.Fraction$"),
        ("a.png", r"got str; read a file with PIL\.Image\.open"),
        (np.uint8([0, 1]), r"or \(H, W, 4\), got shape \(2,\)"),
        (np.zeros((2, 2, 2), np.uint8), r"got shape \(2, 2, 2\)"),
        (np.zeros((2, 2, 5), np.uint8), r"got shape \(2, 2, 5\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"got shape \(1, 2, 2, 3\)"),
        (np.zeros((0, 4), np.uint8), "expected a picture, got 4 x 0 pixels"),
        (Image.new("L", (0, 4)), "expected a picture, got 0 x 4 pixels"),
        (np.broadcast_to(np.uint8(0), (20000, 20001)), "20001 x 20000 pixels is over the limit of 400,000,000"),
        (np.int32([[0, 1]]), r"expected uint8, uint16 or float in \[0, 1\], got int32"),
        (np.float32([[0, 1.002]]), r"expected floats in \[0, 1\], found 0\.\.1\.002"),
        (np.float64([[0, 1.00105]]), r"found 0\.\.1\.00105"),
        (np.float32([[-0.002, 1]]), r"found -0\.002\.\.1"),
        (np.float32([[np.nan, 1]]), r"found nan\.\.nan"),
        (Image.fromarray(np.int32([[0, 65536]])), r"expected values in 0\.\.65535, found 0\.\.65536"),
        (Image.fromarray(np.int32([[-1, 0]])), r"found -1\.\.0"),
    ],
)
def test_what_is_no_photograph_is_refused(picture, text):
    with pytest.raises(InputError, match=f"^mine: .*{text}"):
        rgb_of(picture, "mine")
    if not isinstance(picture, np.ndarray) or picture.dtype != np.int32:
        with pytest.raises(InputError, match=f"^mine: .*{text}"):
            deep_colours_of(picture, "mine")


@pytest.mark.parametrize(
    ("convert", "name"), [(rgb_of, "image"), (deep_colours_of, "image"), (trimap_of, "trimap"), (mask_of, "mask")]
)
def test_messages_have_the_usual_name_of_the_picture(convert, name):
    with pytest.raises(InputError, match=f"^{name}: expected a numpy array"):
        convert("a.png")


@pytest.mark.parametrize("values", [[0, 1.1], [-0.1, 1], [0, 2], [np.nan, 0]])
def test_floats_outside_0_to_1_are_no_mask(values):
    with pytest.raises(InputError, match=r"^mine: expected floats in \[0, 1\]"):
        mask_of(np.array([values], np.float64), "mine")


def test_the_largest_picture_is_read(monkeypatch):
    monkeypatch.setattr(arrays, "MAX_PIXELS", 6)
    assert rgb_of(np.zeros((2, 3), np.uint8)).shape == (2, 3, 3)
    with pytest.raises(InputError, match="7 x 1 pixels is over the limit of 6"):
        rgb_of(np.zeros((1, 7), np.uint8))


def test_several_frames_are_refused_but_a_camera_s_preview_is_passed_over(tmp_path):
    first, second = (Image.new("RGB", (8, 8), (level, 0, 0)) for level in (200, 90))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="found several frames"), Image.open(tmp_path / "a.gif") as image:
        rgb_of(image)
    with Image.open(tmp_path / "a.mpo") as image:
        assert image.n_frames == 2
        assert rgb_of(image)[0, 0, 0] == pytest.approx(200, abs=2)


def test_damaged_pixels_are_named_when_they_are_decoded(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.png: not a readable image"), Image.open(path) as image:
        rgb_of(image, "mine")
    stored = io.BytesIO(path.read_bytes())
    with pytest.raises(InputError, match="mine: not a readable image"), Image.open(stored) as image:
        rgb_of(image, "mine")


def test_a_file_that_pil_has_opened_is_read_like_the_file(tmp_path):
    white = np.full((40, 48, 3), 65535, np.uint16)
    cv2.imwrite(str(tmp_path / "white.jp2"), white)  # which PIL would decode as black
    with Image.open(tmp_path / "white.jp2") as image:
        assert (rgb_of(image) == 255).all()
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values[..., ::-1])
    with Image.open(tmp_path / "deep.png") as image:
        np.testing.assert_array_equal(np.rint(deep_colours_of(image).astype(np.float64) * 65535), values)
    tifffile.imwrite(tmp_path / "inverted.tif", np.uint16([[65535, 0]]), photometric="miniswhite")
    with Image.open(tmp_path / "inverted.tif") as image:
        assert (rgb_of(image)[..., 0].tolist(), trimap_of(image).tolist()) == ([[0, 255]], [[0, 255]])
        assert mask_of(image).tolist() == [[0, 1]]
    light = np.full((4, 5, 3), 0.2140411, np.float32)  # half of the sRGB scale
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(tmp_path / "light.exr"))
    with Image.open(tmp_path / "light.exr") as image:
        assert (rgb_of(image) == 127).all()
    Image.fromarray(np.uint8([[0, 1, 2]])).save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image, pytest.warns(UserWarning, match="labels.png: values 0, 1, 2"):
        assert trimap_of(image).tolist() == [[0, 128, 255]]


def test_a_file_that_pil_has_decoded_or_reduced_is_read_as_it_is_in_memory(tmp_path):
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "a.jpg", quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft("RGB", (16, 16))
        assert rgb_of(image).shape == (16, 16, 3)
    Image.fromarray(np.full((4, 4, 3), 200, np.uint8)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        image.paste((1, 2, 3), (0, 0, 4, 4))
        assert rgb_of(image)[0, 0].tolist() == [1, 2, 3]
