"""Folding of batch norm into the preceding convolution: in eval mode the pair is one convolution."""

import torch
from torch import Tensor, nn


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (out, in, k, k) and bias (out,) of the convolution that equals `conv` followed by `norm` in eval mode."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    bias = shift if conv.bias is None else shift + conv.bias * scale
    return conv.weight * scale[:, None, None, None], bias
