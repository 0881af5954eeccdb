"""Deep Image Matting's decoder, whose only details are the positions of the encoder's maxima, and its refinement.

Xu et al., "Deep Image Matting", CVPR 2017, as implemented in open-mmlab/mmagic, with its parameter names.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modeling.backbone.pooling import max_unpool
from modeling.backbone.vgg16 import WIDTHS


class UnpoolingDecoder(nn.Module):
    """A 1x1 convolution, five times an unpooling and a 5x5 convolution, and one convolution for the raw alpha.

    Args:
        widths: channels of the encoder's stages, the finest first; each unpooling has the channels of its pool.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.widths = tuple(widths)
        width1, width2, width3, width4, width5 = widths
        self.deconv6_1 = nn.Conv2d(width5, width5, 1)
        self.deconv5_1 = nn.Conv2d(width5, width4, 5, padding=2)
        self.deconv4_1 = nn.Conv2d(width4, width3, 5, padding=2)
        self.deconv3_1 = nn.Conv2d(width3, width2, 5, padding=2)
        self.deconv2_1 = nn.Conv2d(width2, width1, 5, padding=2)
        self.deconv1_1 = nn.Conv2d(width1, width1, 5, padding=2)
        self.deconv1 = nn.Conv2d(width1, 1, 5, padding=2)
        _init_xavier(self)

    def forward(self, features: Tensor, places: Sequence[Tensor]) -> Tensor:
        """Map features (B, C, h, w) to the raw alpha (B, 1, 32 h, 32 w), before its sigmoid.

        Args:
            places: positions of the maxima of the encoder's five pools, the finest first.
        """
        x = self.deconv6_1(features).relu_()
        steps = (self.deconv5_1, self.deconv4_1, self.deconv3_1, self.deconv2_1, self.deconv1_1)
        for conv, place in zip(steps, reversed(places), strict=True):
            x = conv(max_unpool(x, place)).relu_()
        return self.deconv1(x)


class RefinementNetwork(nn.Module):
    """Four 3x3 convolutions that correct the raw alpha.

    Args:
        width: number of channels of the first three convolutions.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.refine_conv1 = nn.Conv2d(4, width, 3, padding=1)
        self.refine_conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.refine_conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.refine_pred = nn.Conv2d(width, 1, 3, padding=1)
        _init_xavier(self)

    def forward(self, image: Tensor, raw_alpha: Tensor) -> Tensor:
        """Corrected raw alpha (B, 1, H, W), from the normalised image (B, 3, H, W) and the raw alpha.

        The input of the network is alpha in [0, 1]. The correction is added before the sigmoid; the paper adds it to
        alpha.
        """
        x = torch.cat([image, raw_alpha.sigmoid()], dim=1)
        for conv in (self.refine_conv1, self.refine_conv2, self.refine_conv3):
            x = conv(x).relu_()
        return raw_alpha + self.refine_pred(x)


def _init_xavier(module: nn.Module) -> None:
    for conv in module.children():
        nn.init.xavier_normal_(conv.weight)
        nn.init.zeros_(conv.bias)
