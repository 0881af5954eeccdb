"""Procedural clips hold what they promise."""

import cv2
import numpy as np
import pytest

from data.synthetic.clips import SyntheticClip
from runtime.errors import InputError


def test_a_frame_is_a_function_of_its_index():
    clip, again = SyntheticClip((64, 80), 6), SyntheticClip((64, 80), 6)
    later = again[4]
    for first, second in zip(clip[4], later, strict=True):
        np.testing.assert_array_equal(first, second)
    assert [frame.image.shape for frame in clip] == [(64, 80, 3)] * 6
    assert not np.array_equal(clip[0].image, clip[1].image)
    assert not np.array_equal(clip[0].alpha, clip[3].alpha)


def test_the_compositing_equation_holds_in_each_frame():
    """The same object before two backgrounds that differ by pan alone: what is opaque does not change."""
    settings = {"motion": 2, "turn": 1, "noise": 0, "family": "solid"}
    first, second = (SyntheticClip((96, 128), 8, pan=pan, **settings)[5] for pan in (0, 6))
    np.testing.assert_array_equal(first.alpha, second.alpha)
    opaque, empty = first.alpha == 255, first.alpha == 0
    difference = np.abs(first.image.astype(int) - second.image)
    assert difference[opaque].max() <= 1
    assert difference[empty].max() > 10
    still = SyntheticClip((96, 128), 8, pan=0, motion=0, turn=0, noise=0, family="solid")
    np.testing.assert_array_equal(still[0].image, still[7].image)


def test_motion_is_what_was_asked_for():
    """By phase correlation of alpha; a swing starts at full speed, sin(2 pi / T) T / (2 pi) of it in the first step."""
    clip = SyntheticClip((160, 200), 3, seed=1, motion=3, turn=0, noise=0, family="solid")
    moved, _ = cv2.phaseCorrelate(*(frame.alpha.astype(np.float32) for frame in (clip[0], clip[1])))
    assert moved == pytest.approx((2.988, 0.5 * 2.963), abs=0.15)


def test_noise_is_fresh_in_each_frame_and_as_strong_as_asked_for():
    clip = SyntheticClip((64, 64), 3, motion=0, turn=0, pan=0, noise=0.02, family="solid")
    difference = clip[1].image.astype(float) - clip[2].image
    assert difference.std() / 255 == pytest.approx(0.02 * 2**0.5, rel=0.15)


def test_a_cut_is_another_scene():
    clip = SyntheticClip((64, 64), 6, seed=2, cut_at=3, noise=0)
    other = SyntheticClip((64, 64), 6, seed=3, noise=0)
    np.testing.assert_array_equal(clip[3].alpha, other[3].alpha)
    assert not np.array_equal(clip[2].alpha, other[2].alpha)


@pytest.mark.parametrize("setting", [{"frames": 0}, {"motion": -1}, {"noise": -1}, {"family": "cat"}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(InputError):
        SyntheticClip(**setting)
