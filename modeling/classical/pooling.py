"""Sums over 3 x 3 windows and 2 x 2 cells, and their transposes.

torch's pooling and interpolation are one kernel on an accelerator, but on a CPU they take ten times as long as adding
shifted views.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 2**22  # numbers; larger tensors are not copied on a CPU


def window_sum(x: Tensor) -> Tensor:
    """Sum over 3 x 3 windows: (N, C, h + 2, w + 2) -> (N, C, h, w)."""
    if not x.is_cpu:
        return F.avg_pool2d(x, 3, stride=1, divisor_override=1)
    rows = x[..., :-2, :] + x[..., 1:-1, :]
    rows += x[..., 2:, :]
    columns = rows[..., :-2] + rows[..., 1:-1]
    columns += rows[..., 2:]
    return columns


def cell_sum(x: Tensor) -> Tensor:
    """Sum over 2 x 2 cells: (N, C, h, w) -> (N, C, h / 2, w / 2)."""
    if not x.is_cpu:
        return F.avg_pool2d(x, 2, divisor_override=1)
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def weighted_cell_sum(x: Tensor, weight: Tensor) -> Tensor:
    """Sum of (N, C, h, w) times (N, 1, h, w) over 2 x 2 cells: (N, C, h / 2, w / 2)."""
    if x.numel() > LARGE and x.is_cpu:
        return torch.cat([cell_sum(channel * weight) for channel in x.split(1, dim=1)], dim=1)
    return cell_sum(x * weight)


def spread_dot(x: Tensor, coarse: Tensor) -> Tensor:
    """Inner product over channels of (N, C, h, w) and repeated cells (N, C, h / 2, w / 2): (N, 1, h, w)."""
    wide = torch.stack([coarse, coarse], dim=-1).flatten(-2).unsqueeze(-2)  # (N, C, h / 2, 1, w)
    x = x.unflatten(-2, (-1, 2))
    if not x.is_cpu:
        return (x * wide).sum(dim=1, keepdim=True).flatten(2, 3)
    out = x[:, :1] * wide[:, :1]
    for channel in range(1, x.shape[1]):
        out.addcmul_(x[:, channel : channel + 1], wide[:, channel : channel + 1])
    return out.flatten(2, 3)


def channel_dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product over channels of two (N, C, h, w): (N, 1, h, w)."""
    return (x * y).sum(dim=1, keepdim=True)


def image_dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product of two (N, C, h, w) for each of the N: (N, 1, 1, 1)."""
    return (x * y).sum(dim=(1, 2, 3), keepdim=True)


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    """Product of one matrix per pixel, (N, C, C, h, w), with (N, C, h, w)."""
    return (matrix * x[:, None]).sum(dim=2)


def doubled(x: Tensor) -> Tensor:
    """Bilinear interpolation to twice the size: (N, C, h + 2, w + 2) with a margin of one pixel -> (N, C, 2 h, 2 w)."""
    height, width = x.shape[-2] - 2, x.shape[-1] - 2
    near = 0.75 * x
    rows = torch.stack([near[..., 1:-1, :] + 0.25 * x[..., :-2, :], near[..., 1:-1, :] + 0.25 * x[..., 2:, :]], dim=-2)
    rows = rows.reshape(*x.shape[:-2], 2 * height, width + 2)
    near = 0.75 * rows[..., 1:-1]
    both = torch.stack([near + 0.25 * rows[..., :-2], near + 0.25 * rows[..., 2:]], dim=-1)
    return both.reshape(*x.shape[:-2], 2 * height, 2 * width)
