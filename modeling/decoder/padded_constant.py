"""A 3x3 convolution of a map that holds one value a channel and is padded with zeros."""

import torch
from torch import Tensor


class PaddedConstant:
    """Nine results a channel: in the map's first row, further in, and in its last row, and so for its columns.

    Attributes:
        kinds: (H, W) int64, which of the nine a pixel has.
    """

    def __init__(self, weight: Tensor, size: tuple[int, int]) -> None:
        """`weight` (out, in, 3, 3) is that of the convolution; `size` (H, W) of the map is at least 2 x 2."""
        inside = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 0]]).to(weight)  # taps that read the map
        self._weights = torch.einsum("rk,cl,oikl->rcoi", inside, inside, weight).flatten(0, 1)
        row, column = (torch.ones(length, dtype=torch.int64, device=weight.device) for length in size)
        row[0] = column[0] = 0
        row[-1] = column[-1] = 2
        self.kinds = 3 * row[:, None] + column

    def __call__(self, constant: Tensor) -> Tensor:
        """(in,) -> (9, out)."""
        return self._weights @ constant
