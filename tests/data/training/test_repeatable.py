"""The base of training sets: what a set of files gets from it, whatever its samples are."""

from dataclasses import dataclass

import torch

from data.training.repeatable import RepeatableDataset


@dataclass(frozen=True)
class Flips:
    crop_size: int
    mirrored: bool


class Crops(RepeatableDataset):
    """A set with a recipe of its own: the seed's number in a square of the crop's size."""

    def _list_files(self):
        return "none"

    def _sample(self, files, epoch, index, attempt):
        value = self.generator(epoch, index, attempt).random()
        return {"image": torch.full((self.recipe.crop_size,) * 2, -value if self.recipe.mirrored else value)}


def test_any_set_can_be_cut_in_another_size_with_the_same_draws():
    crops = Crops(Flips(crop_size=4, mirrored=True), samples_per_epoch=3, seed=5, on_bad="error")
    larger = crops.with_crop_size(6)
    assert larger[1, 2]["image"].shape == (6, 6)
    assert larger[1, 2]["image"].unique() == crops[1, 2]["image"].unique() < 0
    assert crops[0]["image"].shape == (4, 4)
