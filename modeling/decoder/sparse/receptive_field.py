"""Receptive field of the unknown pixels at every level of the detail capture decoder. Masks are bool (B, H, W)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ReceptiveField:
    """Pixels of each level on which alpha depends; level 0 is the full resolution, each next level has half of it.

    Attributes:
        details: masks of the detail maps, level 1 first. At level 0 the details are the input.
        fused: masks of the fusion blocks' outputs, level 1 first. At level 0 they are the pixels and their neighbours.
        features: mask of the backbone's features, one level beyond the last of the others.
    """

    details: list[Tensor]
    fused: list[Tensor]
    features: Tensor

    @classmethod
    def of(cls, unknown: Tensor, depth: int) -> "ReceptiveField":
        """Receptive field of `unknown` (B, H, W), for features at level `depth`; 2^depth divides H and W."""
        fused = [dilate(unknown)]  # the head's 3x3 convolution
        for _ in range(depth):
            fused.append(dilate(halve(fused[-1])))  # 3x3 after bilinear x2: pixels 2i and 2i + 1 read i - 1, i, i + 1
        *fused, features = fused[1:]
        details = [dilate(mask) for mask in fused]
        for level in reversed(range(len(details) - 1)):  # 3x3 with stride 2: pixel i reads 2i - 1, 2i, 2i + 1
            details[level] |= dilate(double(details[level + 1]))
        return cls(details, fused, features)


def dilate(mask: Tensor) -> Tensor:
    """Grow by one pixel in all eight directions: the pixels that a 3x3 convolution reads."""
    padded = F.pad(mask, (1, 1, 1, 1))
    rows = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def halve(mask: Tensor) -> Tensor:
    """(B, H, W) -> (B, ceil(H / 2), ceil(W / 2)): true where any of the 2x2 pixels is true."""
    height, width = mask.shape[-2:]
    if height % 2 or width % 2:
        mask = F.pad(mask, (0, width % 2, 0, height % 2))
    rows = mask[:, ::2] | mask[:, 1::2]
    return rows[..., ::2] | rows[..., 1::2]


def double(mask: Tensor) -> Tensor:
    """(B, H, W) -> (B, 2 H, 2 W): every pixel as 2x2."""
    return mask.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
