"""Segmentation head: from maps of several blocks to a logit for each class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runtime.errors import InputError


class SegmentationHead(nn.Module):
    """Concatenate maps, normalise them, and classify each position: BatchNorm, dropout, a 1x1 convolution.

    This is the head of facebookresearch/dinov2's segmentation notebook ("ms" with four maps, "linear" with one), with
    its names of tensors. With four maps of 384 channels and two classes it has 6,146 parameters.

    Args:
        in_chans: number of channels of all maps together.
        num_classes: number of classes.
        dropout: share of the channels that are dropped in training.
        norm: whether there is a BatchNorm.
        hidden_chans: width of a 3x3 convolution with ReLU before the 1x1 convolution; None for no such convolution.
    """

    def __init__(
        self, in_chans: int, num_classes: int, dropout: float = 0.0, norm: bool = True, hidden_chans: int | None = None
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"segmentation head: expected dropout from 0 to below 1, got {dropout}")
        self.bn = nn.BatchNorm2d(in_chans) if norm else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)
        self.hidden = nn.Identity()
        if hidden_chans is not None:
            self.hidden = nn.Sequential(nn.Conv2d(in_chans, hidden_chans, 3, padding=1), nn.ReLU())
        self.conv_seg = nn.Conv2d(hidden_chans or in_chans, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w) each -> logits (B, num_classes, h, w)."""
        x = torch.cat(list(maps), dim=1)  # (B, in_chans, h, w)
        return self.conv_seg(self.hidden(self.dropout(self.bn(x))))
