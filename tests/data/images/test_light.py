"""Levels of float photographs, worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from data.images import light
from data.images.light import photograph_floats, photograph_levels, remark_on, transfer_of
from runtime.errors import InputError


@pytest.mark.parametrize("values_at_once", [1, 6, 7, 13, 2**20])
def test_levels_do_not_depend_on_how_many_values_are_converted_at_once(monkeypatch, values_at_once):
    monkeypatch.setattr(light, "VALUES_AT_ONCE", values_at_once)
    values = np.float32([[[0, 0.2, 1], [1.5, -1, 0.6]], [[0.4, 0.4, 0.4], [0, 0, 2]], [[1, 1, 1], [0.8, 0, 0]]])
    levels, clipped = photograph_levels(values, "srgb")
    assert levels.tolist() == [
        [[0, 51, 255], [255, 0, 153]], [[102, 102, 102], [0, 0, 255]], [[255, 255, 255], [204, 0, 0]]
    ]  # fmt: skip
    assert clipped == 3 / 18


def test_an_alpha_channel_is_neither_read_nor_counted():
    levels, clipped = photograph_levels(np.float32([[[1, 2, 0, 9]]]), "srgb")
    assert levels.tolist() == [[[255, 255, 0]]]
    assert clipped == pytest.approx(1 / 3)


def test_gray_is_repeated_and_light_is_encoded():
    """Half of the light has the level 188, as tables of sRGB say; a level of 127.5 has 0.2140."""
    levels, clipped = photograph_levels(np.float64([[0, 0.5, 1]]), "linear")
    assert levels.tolist() == [[[0] * 3, [188] * 3, [255] * 3]]
    assert clipped == 0


def test_nan_is_refused_by_the_name_of_the_file():
    with pytest.raises(InputError, match=r"^a\.exr: expected numbers, found NaN"):
        photograph_levels(np.float32([[0, np.nan]]), "linear", "a.exr")
    with pytest.raises(InputError, match=r"^picture: expected numbers, found NaN"):
        photograph_levels(np.float32([[0, np.nan]]), "linear")


def test_floats_are_kept_outside_0_to_1_without_an_alpha_channel():
    assert photograph_floats(np.float32([[-0.5, 2], [70_000, -np.inf]]), "srgb").tolist() == [
        [[-0.5] * 3, [2] * 3], [[65504] * 3, [-1] * 3]
    ]  # fmt: skip
    assert photograph_floats(np.float64([[[0.25, 3, 0, 9]]]), "srgb").tolist() == [[[0.25, 3, 0]]]
    light = photograph_floats(np.float32([[[-0.01, 0.0031308, 0.5]]]), "linear")  # 0.5 is the level 187.516
    np.testing.assert_allclose(light, [[[-0.1292, 0.04045, 187.516 / 255]]], rtol=1e-5)


def test_floats_of_a_format_without_a_convention_are_levels():
    assert transfer_of(Image.new("F", (1, 1)), None) == "srgb"
    assert transfer_of(Image.new("F", (1, 1)), "linear") == "linear"


def test_remarks_say_what_was_read_and_the_share_in_one_digit():
    assert remark_on("srgb", 0) == "float values read as sRGB levels (see --transfer)"
    assert remark_on("linear", 0.0312) == (
        "float values read as linear light, encoded as sRGB (see --transfer); "
        "3 % of the values are outside 0 to 1 and are clipped for the model"
    )
    for share, percent in ((0.0545, 5), (0.0555, 6), (1, 100)):
        assert f"; {percent} % of the values" in remark_on("srgb", share)
