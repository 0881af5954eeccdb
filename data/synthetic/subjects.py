"""SubjectMasks: the subjects of procedural composites as masks, for training a segmentation."""

import torch
from torch.utils.data import Dataset

from data.synthetic.dataset import SyntheticMatting


class SubjectMasks(Dataset):
    """Samples of `dataset` with the mask of the subject in place of trimap and alpha.

    Args:
        dataset: composites that show whole scenes, since a detail does not show what the subject is.
    """

    def __init__(self, dataset: SyntheticMatting) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor | str]:
        """Return image (3, H, W) float32 in [0, 1], mask (H, W) int64 of 0 and 1 (alpha of at least 0.5), and name."""
        sample = self.dataset[key]
        return {"image": sample["image"], "mask": (sample["alpha"][0] >= 0.5).long(), "name": sample["name"]}
