"""Classes and masks: each form in and out, worked by hand, and files that are refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data.images.classes import Classes, read_mask
from runtime.errors import InputError

SKY, PERSON, DOG = (
    {"name": "sky", "colour": [0, 0, 0], "value": 0},
    {"name": "person", "colour": [0, 255, 0], "value": 7},
    {"name": "dog", "colour": [255, 0, 0], "value": 300},
)
THREE = Classes([SKY, PERSON, DOG])
TWO = Classes([SKY, PERSON])
MASK = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def saved(path, pixels, mode=None):
    Image.fromarray(pixels, mode).save(path)
    return path


def test_label_values_and_colours_come_back_as_indexes(tmp_path):
    values = np.array([[0, 7, 300], [255, 7, 0]], np.uint16)
    assert np.array_equal(read_mask(saved(tmp_path / "ids.png", values), THREE), MASK)
    assert np.array_equal(THREE.to_values(MASK[:1]), values[:1])
    colours = np.array([[[0, 0, 0], [0, 255, 0], [255, 0, 0]], [[0, 0, 0], [0, 255, 0], [0, 0, 0]]], np.uint8)
    expected = np.array([[0, 1, 2], [0, 1, 0]])
    assert np.array_equal(read_mask(saved(tmp_path / "c.png", colours), THREE, "colour"), expected)
    assert np.array_equal(THREE.colour_map(expected), colours)


def test_a_palette_file_holds_ids_by_index_and_colours_by_its_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 7]], np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0] * 7 + [0, 255, 0])
    image.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png", TWO).tolist() == [[0, 1]]
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.save(tmp_path / "q.png")
    assert read_mask(tmp_path / "q.png", TWO, "colour").tolist() == [[0, 1]]


def test_instances_are_one_class_in_binary_masks(tmp_path):
    path = saved(tmp_path / "instances.png", np.array([[0, 1, 2, 255]], np.uint8))
    assert read_mask(path, TWO, "binary").tolist() == [[0, 1, 1, 1]]
    with pytest.raises(InputError, match="binary: expected two classes, got 3"):
        read_mask(path, THREE, "binary")


@pytest.mark.parametrize(
    ("pixels", "mode", "problem"),
    [
        (np.array([[0, 7, 9, 8]], np.uint8), "ids", r"unknown values 8, 9; expected 0 \(sky\), 7 \(person\), or 255"),
        (np.array([[[0, 254, 0]]], np.uint8), "colour", r"unknown colours \(0, 254, 0\); expected \(0, 0, 0\) \(sky\)"),
        (np.array([[[0, 254, 0]]], np.uint8), "ids", "expected label values in one channel, found colours"),
        (np.array([[0.5]], np.float32), "ids", "expected whole numbers as label values"),
    ],
)  # fmt: skip
def test_masks_with_unknown_values_are_refused_by_name(tmp_path, pixels, mode, problem):
    path = saved(tmp_path / "bad.tiff", pixels)
    with pytest.raises(InputError, match=rf"bad\.tiff: {problem}"):
        read_mask(path, TWO, mode)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"colour": [0, 0, 0]}, r"sky and dog share the colour \[0, 0, 0\]"),
        ({"value": 0}, "sky and dog share the value 0"),
        ({"name": "sky"}, "sky and sky share the name sky"),
        ({"colour": [0, 0, 256]}, "expected three numbers from 0 to 255 as colour of dog"),
        ({"colour": 5}, "expected three numbers from 0 to 255 as colour of dog, got 5"),
        ({"value": -1}, "expected 0 to 65535 as value of dog, got -1"),
        ({"weight": 1}, "expected name, colour, value of each"),
    ],
)
def test_classes_that_collide_or_have_no_meaning_are_refused(change, problem):
    with pytest.raises(InputError, match=problem):
        Classes([SKY, PERSON, DOG | change])
    with pytest.raises(InputError, match="expected 2 to 254, got 1"):
        Classes([SKY])


@given(arrays(np.uint8, (3, 4, 3)), arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 255])))
def test_an_overlay_is_a_mean_that_never_saturates(image, mask):
    overlay = THREE.overlay(image, mask)
    colours = np.array([[0, 0, 0], [0, 255, 0], [255, 0, 0]] + [[255] * 3] * 253)[mask].astype(float)
    expected = np.where(mask[..., None] == 0, image, (image + colours) / 2)
    assert np.abs(overlay - expected).max() <= 0.5
    assert THREE.overlay(image, mask, opacity=0).tolist() == image.tolist()


def test_numbered_classes_have_colours_of_their_own():
    for number in (2, 3, 21, 150):
        assert len({tuple(colour) for colour in Classes.numbered(number).colours.tolist()}) == number
    assert Classes.numbered(2).to_values(np.array([[0, 1]])).tolist() == [[0, 255]]
    assert Classes.numbered(2).colours.tolist() == [[0, 0, 0], [0, 255, 0]]
