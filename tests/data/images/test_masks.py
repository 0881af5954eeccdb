"""Masks of users: every coding is recognised by its values, and what is no mask is refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from data.images.masks import read_mask
from runtime.errors import InputError

INSIDE = np.zeros((6, 8), bool)
INSIDE[2:5, 3:7] = True


def saved(tmp_path, array, mode=None, **options):
    path = tmp_path / "mask.png"
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize(
    "levels",
    [
        np.uint8([0, 255]),
        np.uint8([0, 1]),
        np.uint8([0, 7]),
        np.uint16([0, 1]),
        np.uint16([0, 65535]),
        np.bool_([0, 1]),
    ],
    ids=["0_255", "0_1", "0_7", "16_bit_0_1", "16_bit", "1_bit"],
)
def test_two_levels_are_binary_whatever_they_are(tmp_path, levels):
    values, kind = read_mask(saved(tmp_path, levels[INSIDE.astype(int)]))
    assert kind == "binary"
    np.testing.assert_array_equal(values, INSIDE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_of_several_objects_are_all_inside(tmp_path, dtype):
    labels = INSIDE.astype(dtype)
    labels[2:5, 5:] *= 3
    values, kind = read_mask(saved(tmp_path, labels))
    assert kind == "labels"
    np.testing.assert_array_equal(values, INSIDE)


def test_a_coloured_palette_is_a_label_map_and_a_gray_one_is_its_grays(tmp_path):
    image = Image.fromarray(INSIDE.astype(np.uint8)).convert("P")
    image.putdata(INSIDE.astype(np.uint8).ravel().tolist())
    image.putpalette([0, 0, 0, 128, 0, 0])
    np.testing.assert_array_equal(read_mask(saved(tmp_path, image)).values, INSIDE)
    image.putpalette([255, 255, 255, 0, 0, 0])  # index 1 is black: outside
    np.testing.assert_array_equal(read_mask(saved(tmp_path, image)).values, ~INSIDE)


def test_a_void_index_is_refused(tmp_path):
    image = Image.fromarray(INSIDE.astype(np.uint8)).convert("P")
    image.putdata((INSIDE * 255).ravel().tolist())
    image.putpalette([0, 0, 0, *[60, 10, 10] * 255])
    with pytest.raises(InputError, match="label map with index 255"):
        read_mask(saved(tmp_path, image))


def test_a_cut_out_is_read_by_its_alpha_and_an_opaque_one_by_its_grays(tmp_path):
    picture = np.full((6, 8, 4), 90, np.uint8)
    picture[..., 3] = INSIDE * 255
    np.testing.assert_array_equal(read_mask(saved(tmp_path, picture)).values, INSIDE)
    picture[..., :3], picture[..., 3] = (INSIDE * 255)[..., None], 255
    np.testing.assert_array_equal(read_mask(saved(tmp_path, picture)).values, INSIDE)


def test_a_nearly_opaque_picture_is_read_by_its_grays(tmp_path):
    picture = np.full((6, 8, 4), 255, np.uint8)
    picture[..., :3], picture[0, 0, 3] = (INSIDE * 255)[..., None], 254
    np.testing.assert_array_equal(read_mask(saved(tmp_path, picture)).values, INSIDE)


def test_a_soft_mask_keeps_its_levels(tmp_path):
    ramp = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
    values, kind = read_mask(saved(tmp_path, ramp))
    assert kind == "soft"
    np.testing.assert_array_equal(values, ramp.astype(np.float32) / 255)
    jpeg = tmp_path / "mask.jpg"
    Image.fromarray((INSIDE * 255).astype(np.uint8)).save(jpeg, quality=60)
    assert read_mask(jpeg).kind == "soft"


def test_empty_and_full_masks(tmp_path):
    assert read_mask(saved(tmp_path, np.zeros((4, 4), np.uint8))).values.max() == 0
    assert read_mask(saved(tmp_path, np.full((4, 4), 255, np.uint8))).values.min() == 1


def test_a_photograph_is_no_mask(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    with pytest.raises(InputError, match="found a colour picture without transparency"):
        read_mask(saved(tmp_path, picture))


@pytest.mark.parametrize(
    ("levels", "kind", "inside"),
    [
        ([200], "binary", [1]),
        ([0], "binary", [0]),
        ([0, 200], "binary", [0, 1]),
        ([1, 2], "labels", [1, 1]),
        ([0, 1, 127], "labels", [0, 1, 1]),
        ([0, 1, 128], "soft", [0, 1 / 255, 128 / 255]),
        ([5, 200], "soft", [5 / 255, 200 / 255]),
        (range(64), "labels", [0] + [1] * 63),
        (range(65), "soft", [level / 255 for level in range(65)]),
    ],
)
def test_codings_at_their_limits(tmp_path, levels, kind, inside):
    found = read_mask(saved(tmp_path, np.array([levels], np.uint8)))
    assert found.kind == kind
    np.testing.assert_array_equal(found.values, np.float32([inside]))


def test_a_palette_of_colours_has_the_kind_of_labels(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1]]), "L").convert("P")
    image.putdata([0, 1])
    image.putpalette([9, 9, 9, 128, 0, 0])
    assert read_mask(saved(tmp_path, image)).kind == "labels"


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@pytest.mark.parametrize(("least", "by_alpha"), [(127, True), (128, False)])
def test_a_pixel_more_than_half_transparent_makes_a_cut_out(tmp_path, mode, least, by_alpha):
    """Gray 0 and 255 from left to right, alpha 255 and `least`."""
    path = tmp_path / "mask.png"
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putdata([0, 1])
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(path, transparency=bytes([255, least]))
    else:
        pixels = np.uint8([[[0, 0, 0, 255], [255, 255, 255, least]]])
        Image.fromarray(pixels if mode == "RGBA" else pixels[..., 2:]).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(read_mask(path).values, np.float32([[1, least / 255] if by_alpha else [0, 1]]))


def test_floats_of_few_levels_are_soft(tmp_path):
    path = tmp_path / "mask.tif"
    Image.fromarray(np.float32([[0, 0.2, 1]])).save(path)
    assert read_mask(path).kind == "soft"
    np.testing.assert_array_equal(read_mask(path).values, np.float32([[0, 51 / 255, 1]]))


def test_negative_labels_are_refused(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.int16([[-1, 0, 3]]))
    with pytest.raises(InputError, match="signed"):
        read_mask(path)
