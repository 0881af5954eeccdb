"""CropSized: the base class of training sets with variable crop sizes."""

from collections.abc import Sequence

from torch.utils.data import Dataset

from runtime.errors import InputError


class CropSized:
    """A data set that can make crops of another size."""

    def with_crop_size(self, crop_size: int | Sequence[int]) -> "CropSized":
        """The same samples, with the same random numbers, in crops of another size. This set is not changed."""
        raise NotImplementedError


def with_crop_size(dataset: Dataset, crop_size: int | Sequence[int]) -> Dataset:
    """The data set with crops of another size.

    Raises:
        InputError: the data set has crops of one size only.
    """
    if not isinstance(dataset, CropSized):
        raise InputError(
            f"dataloader.train.late_crop_size: a {type(dataset).__name__} has crops of one size only; leave it out, or "
            "train on files"
        )
    return dataset.with_crop_size(crop_size)
