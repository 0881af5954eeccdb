"""Backgrounds: what a user may name, how it fits, and colours in other profiles, against Pillow and by hand."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from profiles import swapped_profile

from data.images.backgrounds import WHITE, Background, read_background
from runtime.errors import InputError

CSS = {"rebeccapurple": (102, 51, 153), "tomato": (255, 99, 71), "#fff": (255, 255, 255), "#1E90ff": (30, 144, 255),
       "3,14,255": (3, 14, 255), " 0, 1 ,2": (0, 1, 2), "rgb(7,8,9)": (7, 8, 9), "#010203ff": (1, 2, 3)}  # fmt: skip


@pytest.mark.parametrize(("text", "colour"), CSS.items())
def test_a_colour_is_read_as_css_has_it(text, colour):
    assert tuple(read_background(text).of_size(5, 4)) == colour


def test_a_gradient_goes_from_top_to_bottom_without_rounding():
    levels = read_background("#000000..100,200,50").of_size(5, 7)
    assert (levels.shape, levels.dtype) == ((5, 1, 3), np.float32)
    np.testing.assert_allclose(
        levels[:, 0], [[0, 0, 0], [25, 50, 12.5], [50, 100, 25], [75, 150, 37.5], [100, 200, 50]]
    )
    assert read_background("tomato..black").of_size(1, 1)[0, 0].tolist() == [255, 99, 71]


def test_a_picture_covers_the_frame_without_distortion():
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 15:25] = 255  # a square in the middle
    np.testing.assert_array_equal(Background(picture).of_size(10, 10), np.full((10, 10, 3), 255))
    np.testing.assert_array_equal(Background(picture).of_size(20, 20), np.full((20, 20, 3), 255))
    assert Background(picture).of_size(33, 21).shape == (33, 21, 3)
    tall = np.repeat(np.arange(8, dtype=np.uint8)[:, None, None], 2, axis=1).repeat(3, axis=2)  # 8 rows of 2
    np.testing.assert_array_equal(Background(tall).of_size(2, 2)[:, 0, 0], [3, 4])
    np.testing.assert_array_equal(Background(tall).of_size(1, 1)[0, 0, 0], 4)  # the mean of 3 and 4, rounded


def test_a_very_oblong_picture_is_cut_before_it_is_enlarged():
    strip = np.zeros((1, 30000, 3), np.uint8)
    strip[:, 14999] = 7
    for width in (200, 100):  # 2/3 and 1/3 of a pixel of the strip, of which one is taken
        found = Background(strip).of_size(300, width)  # the whole strip would be 9 million pixels wide
        np.testing.assert_array_equal(found, np.full((300, width, 3), 7))


def test_a_picture_is_reduced_by_means_and_enlarged_linearly():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0] = 200
    np.testing.assert_array_equal(Background(picture).of_size(1, 1), np.full((1, 1, 3), 50))
    for levels, size, expected in (
        ([0, 100], 4, [0, 25, 75, 100]),  # centres of pixels at -0.25, 0.25, 0.75 and 1.25
        ([0, 80, 160], 4, [0, 50, 110, 160]),  # at -0.125, 0.625, 1.375 and 2.125
    ):
        square = np.tile(np.uint8(levels)[None, :, None], (len(levels), 1, 3))
        assert Background(square).of_size(size, size)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
             7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    upright = image if orientation == 1 else image.transpose(Image.Transpose[turns[orientation]])
    found = read_background(str(tmp_path / "a.png")).of_size(upright.height, upright.width)
    np.testing.assert_array_equal(found, np.asarray(upright))


def test_transparent_parts_of_a_picture_are_over_white(tmp_path):
    pixels = np.uint8([[[100, 50, 0, 0], [100, 50, 0, 255], [100, 50, 0, 51], [100, 50, 0, 100]]])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = [[255, 255, 255], [100, 50, 0], [224, 214, 204], [194, 175, 155]]  # 0.2 * 100 + 0.8 * 255 = 224
    assert read_background(str(tmp_path / "a.png")).of_size(1, 4).tolist() == [expected]
    Image.fromarray(np.uint8([[[0, 0, 0, 254], [9, 9, 9, 255]]])).save(tmp_path / "a.png")
    assert read_background(str(tmp_path / "a.png")).of_size(1, 2)[0, :, 0].tolist() == [1, 9]
    Image.merge("LA", [Image.new("L", (1, 1), level) for level in (100, 51)]).save(tmp_path / "a.png")
    assert read_background(str(tmp_path / "a.png")).of_size(1, 1).tolist() == [[[224] * 3]]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 100, 50, 0])
    palette.save(tmp_path / "a.png", transparency=bytes([255, 51]))
    assert read_background(str(tmp_path / "a.png")).of_size(1, 1).tolist() == [[[224, 214, 204]]]


def test_colours_are_converted_to_the_profile_of_the_picture_in_front(tmp_path):
    profile = swapped_profile()
    colour = read_background("200,30,90").of_size(3, 3, profile).astype(int)
    assert np.abs(colour - (30, 200, 90)).max() <= 1
    ends = Background(np.uint8([[200, 30, 90], [10, 250, 0]])).of_size(2, 2, profile)[:, 0]
    assert np.abs(ends - [[30, 200, 90], [250, 10, 0]]).max() <= 1
    Image.new("RGB", (4, 4), (200, 30, 90)).save(tmp_path / "a.png", icc_profile=profile)
    picture = read_background(str(tmp_path / "a.png"))
    assert picture.of_size(2, 2, profile)[0, 0].tolist() == [200, 30, 90]  # the same profile: left alone
    srgb = ImageCms.profileToProfile(
        Image.open(tmp_path / "a.png"), io.BytesIO(profile), ImageCms.createProfile("sRGB"), renderingIntent=1
    )
    np.testing.assert_array_equal(picture.of_size(4, 4), np.asarray(srgb))


def test_a_damaged_profile_leaves_colours_alone():
    assert WHITE.of_size(1, 1, b"no profile").tolist() == [255, 255, 255]
    assert read_background("1,2,3").of_size(1, 1, b"no profile").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("no-colour", "expected a colour .* got 'no-colour'"),
        ("nothing..white", "expected a colour .* got 'nothing..white'"),
        ("red..white..blue", "expected a colour .* got 'red..white..blue'"),
        ("white..nothing", "expected a colour .* got 'white..nothing'"),
        ("#1e90ff80", "expected an opaque colour"),
        ("1,2,256", "expected values of 0 to 255"),
        ("../nowhere.png", "expected a colour"),
        ("", "expected a colour|expected an image"),
        ("broken.png", "broken.png: not a readable image"),
    ],
)
def test_what_is_no_background_is_refused(tmp_path, monkeypatch, text, match):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=match):
        read_background(text)
