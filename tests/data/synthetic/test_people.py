"""The procedural set of person-like figures: repeatable, with masks that show what is in the picture."""

import numpy as np
import pytest
import torch

from data.synthetic import SyntheticPeople
from data.synthetic.people import draw_figure
from data.testing.eight_bit import EightBit
from runtime.errors import InputError


def test_a_sample_is_a_function_of_seed_epoch_and_index():
    dataset, again = SyntheticPeople(size=(48, 64), seed=2), SyntheticPeople(size=(48, 64), seed=2)
    again[5]
    for key in (0, (3, 7)):
        assert all(torch.equal(dataset[key][name], again[key][name]) for name in ("image", "mask"))
    assert not torch.equal(dataset[0]["image"], dataset[1, 0]["image"])
    assert not torch.equal(dataset[0]["image"], SyntheticPeople(size=(48, 64), seed=3)[0]["image"])
    assert dataset[0]["image"].shape == (3, 48, 64)
    with pytest.raises(IndexError):
        dataset[1000]


def test_persons_take_a_quarter_of_the_pictures_and_some_have_none():
    masks = np.stack([SyntheticPeople(size=64, photographs=False)[index]["mask"].numpy() for index in range(80)])
    shares = masks.mean((1, 2))
    assert set(np.unique(masks)) == {0, 1}
    assert 0.15 < shares.mean() < 0.35
    assert 0 < (shares == 0).sum() < 15
    assert shares.max() > 0.5


def test_the_mask_is_where_no_background_shows_through():
    """The same figures before black and before white: the difference is what share of a pixel they leave free."""

    class Alone(SyntheticPeople):
        level = 0.0

        def _background(self, rng):
            return np.full((64, 64, 4), [self.level] * 3 + [1], np.float32)

        def _thing(self, rng):
            return np.zeros((64, 64, 4), np.float32)

    black, white = Alone(size=64), Alone(size=64)
    white.level = 1.0
    for index in range(8):
        free = (white[index]["image"] - black[index]["image"]).mean(0)
        assert torch.equal(white[index]["mask"], black[index]["mask"])
        differs = (free < 0.5) != (white[index]["mask"] == 1)
        assert differs.float().mean() < 0.005  # noise is clipped at black and white
        assert (free[differs] - 0.5).abs().max() < 0.1 if differs.any() else True


def test_a_figure_has_its_head_in_the_picture():
    for seed in range(50):
        figure = draw_figure(np.random.default_rng(seed), 100, 80)
        names = [name for name, outlines in figure.parts if outlines]
        assert {"hair", "trousers", "shoes", "skin", "shirt"} == set(names)
        (face,) = figure.parts[-2][1]
        assert ((face.mean(axis=0) > 0) & (face.mean(axis=0) < (80, 100))).all()


def test_validation_sees_8_bits():
    sample, tensors = EightBit(SyntheticPeople(size=64))[3], SyntheticPeople(size=64)[3]
    assert sample["image"].dtype == sample["mask"].dtype == np.uint8
    assert np.array_equal(sample["mask"], tensors["mask"])
    np.testing.assert_allclose(sample["image"] / 255, tensors["image"].permute(1, 2, 0), atol=0.5 / 255 + 1e-6)


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="size: expected sides of at least 32"):
        SyntheticPeople(size=16)
    with pytest.raises(InputError, match="samples_per_epoch"):
        SyntheticPeople(samples_per_epoch=0)
