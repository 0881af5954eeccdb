"""3x3 convolution of a map upsampled x2, computed without the upsampled map and with a quarter of the multiplications.

The convolution is a sum over its taps (k, l) of shifted maps W[k, l] x, and mixing channels commutes with
resampling: conv(up(x)) = sum over (k, l) of shift[k, l](up(W[k, l] x)). The channels are therefore mixed at the lower
resolution, which has a quarter of the pixels. The remaining operation acts on each channel alone and is separable.
Along an axis it is a small banded matrix with the bilinear weights, the shifts of the taps, and at the borders of the
map the clamping of the upsampling and the zero padding of the convolution. The result is exact.

Along an axis, "outputs" are pixels of the upsampled map, and `low` pixels those of the original map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modeling.linear import linear

TAPS = 3


@dataclass(frozen=True)
class UpsampledConv:
    """Weights of a 3x3 convolution as one matrix per row of taps: (3, 3 * out, in), rows (tap in the row, out)."""

    mixing: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> "UpsampledConv":
        """`weight` (out, in, 3, 3) of a convolution with padding 1 over the upsampled map."""
        return cls(weight.permute(2, 3, 0, 1).flatten(1, 2).contiguous())

    def add_to(self, out: Tensor, patches: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
        """Add to `out` (n, side, side, out), in place, the convolution of the upsampled `patches` (n, low, low, in).

        Args:
            vertical: `axis_weights` of the rows of every patch, (n, side, low, 3).
            horizontal: `axis_weights` of the columns, the same for all patches, (side, low, 3).
        """
        count, low = patches.shape[:2]
        side, channels = out.shape[2:]
        pixels = patches.flatten(0, 2)
        rows_done = torch.zeros(count, side, low * TAPS * channels, dtype=out.dtype, device=out.device)
        for mixing, weights in zip(self.mixing, vertical.permute(3, 0, 1, 2).contiguous(), strict=True):
            mixed = linear(pixels, mixing).view(count, low, low * TAPS * channels)
            rows_done.baddbmm_(weights, mixed)
        weights = horizontal.flatten(1).expand(count * side, -1, -1)  # (n * side, side, low * 3)
        out.view(count * side, side, channels).baddbmm_(weights, rows_done.view(count * side, low * TAPS, channels))

    def work(self, side: int, low: int) -> int:
        """Number of multiplications for a patch of side x side outputs from low x low pixels."""
        channels = self.mixing.shape[1] // TAPS
        return low**2 * self.mixing.numel() + TAPS * low * side * (TAPS * low + side) * channels


def low_start(start: Tensor) -> Tensor:
    """First low pixel that outputs from `start` on read."""
    return (start - 2).div(2, rounding_mode="floor")


def low_length(length: int, odd_start: bool) -> int:
    """Number of low pixels that an even number of outputs reads."""
    return length // 2 + (3 if odd_start else 2)


def axis_weights(start: Tensor, length: int, low: int, limit: int, dtype: torch.dtype) -> Tensor:
    """Weights of low pixels along one axis, for patches of `length` outputs from each `start` and `low` pixels.

    Output u reads the map at (u + 0.5) / 2 - 0.5, clamped to the map, as F.interpolate(scale_factor=2,
    mode="bilinear", align_corners=False) does.

    Args:
        start: (n,) int64, may be negative.
        limit: number of outputs along the whole axis, twice the number of low pixels.

    Returns:
        (n, length, low, 3): weight of each low pixel from `low_start` on for each output and tap.
    """
    outputs = start[:, None] + torch.arange(length, device=start.device)  # (n, length)
    read = outputs[:, :, None] + torch.arange(TAPS, device=start.device) - TAPS // 2  # (n, length, 3)
    inside = (read >= 0) & (read < limit)
    position = ((read + 0.5) / 2 - 0.5).clamp(0, limit // 2 - 1)
    pixels = low_start(start)[:, None] + torch.arange(low, device=start.device)  # (n, low)
    distance = (position[:, :, None, :] - pixels[:, None, :, None]).abs()  # (n, length, low, 3)
    return ((1 - distance).clamp(min=0) * inside[:, :, None, :]).to(dtype)
