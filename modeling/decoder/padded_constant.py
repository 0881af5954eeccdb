"""3x3 convolution of a map that is constant in each channel and padded with zeros."""

import torch
from torch import Tensor


class PaddedConstant:
    """Nine results per channel: those of the first, inner and last rows, each for the first, inner and last columns.

    Attributes:
        kinds: (H, W) int64, the number of a pixel's result, 0 to 8.
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
