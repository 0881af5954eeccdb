"""Trimap as input of a network: one channel of 0, 0.5 and 1, or one channel for each of its three regions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.trimap_tensors import resize_trimap_tensor

TRIMAP_CHANS = {"value": 1, "one_hot": 3}
LEVELS = (0, 0.5, 1)  # background, unknown, foreground: the order of the one-hot channels


def encode_trimap(trimap: Tensor, trimap_input: str) -> Tensor:
    """(B, 1, H, W) of exactly 0, 0.5 and 1 -> (B, C, H, W) of the same dtype, C = TRIMAP_CHANS[trimap_input]."""
    if trimap_input == "value":
        return trimap
    return torch.cat([trimap == level for level in LEVELS], dim=1).to(trimap.dtype)


def resize_trimap_channels(channels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, 1 or 3, H, W) of `encode_trimap` to (B, 1 or 3, *size) by the rule of `resize_trimap_tensor`.

    Pixels that are entirely in padding, where all three channels are 0, stay 0.
    """
    if channels.shape[1] == TRIMAP_CHANS["value"]:
        return resize_trimap_tensor(channels, size)
    trimap = resize_trimap_tensor(channels[:, 2:] + 0.5 * channels[:, 1:2], size)
    inside = F.interpolate(channels.sum(dim=1, keepdim=True), size=size, mode="bilinear", antialias=True) > 0
    return encode_trimap(trimap, "one_hot") * inside
