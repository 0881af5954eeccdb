"""Procedural samples as 8-bit arrays, like files that are predicted and scored."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from data.images.trimap_tensors import tensor_to_trimap


class EightBit:
    """A procedural data set for validation: float tensors rounded to the 8-bit arrays of files.

    Args:
        dataset: items with "name" and "image" (3, H, W); with "trimap" and "alpha" (1, H, W) float tensors, or "mask"
            (H, W) of class indexes.
    """

    def __init__(self, dataset: Sequence[dict[str, Any]]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.dataset[index]
        readers = {
            "image": lambda tensor: _to_uint8(tensor).transpose(1, 2, 0),
            "trimap": tensor_to_trimap,
            "alpha": lambda tensor: _to_uint8(tensor)[0],
            "mask": lambda tensor: tensor.byte().numpy(),
        }
        arrays = {name: read(sample[name]) for name, read in readers.items() if name in sample}
        return {"name": sample["name"], **arrays}


def _to_uint8(tensor: Tensor) -> np.ndarray:
    return (tensor * 255).round().clamp(0, 255).byte().numpy()
