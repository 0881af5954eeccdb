"""Procedural samples as 8-bit arrays, the form in which files are predicted and scored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from data.images.trimap_tensors import tensor_to_trimap


class EightBit:
    """A procedural data set as validation sees it: float tensors rounded to the 8-bit arrays a file would hold.

    Args:
        dataset: items with "image" (3, H, W), "trimap" and "alpha" (1, H, W) float tensors, and "name".
    """

    def __init__(self, dataset: Sequence[dict[str, Any]]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.dataset[index]
        return {
            "name": sample["name"],
            "image": _to_uint8(sample["image"]).transpose(1, 2, 0),
            "trimap": tensor_to_trimap(sample["trimap"]),
            "alpha": _to_uint8(sample["alpha"])[0],
        }


def _to_uint8(tensor: Tensor) -> np.ndarray:
    return (tensor * 255).round().clamp(0, 255).byte().numpy()
