"""VGG-16 with the positions of its maxima: the encoder of Deep Image Matting.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015. The modules of each
stage are those of torchvision's `vgg16` or `vgg16_bn` in the same order, so that weights can be copied by index.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from modeling.backbone.base import Encoder
from modeling.backbone.pooling import max_pool
from runtime.errors import InputError

DEPTHS = (2, 2, 3, 3, 3)  # convolutions before each pool
WIDTHS = (64, 128, 256, 512, 512)


class VGG16(Encoder):
    """Thirteen convolutions, five pools, and a 1x1 convolution, conv6, which ImageNet's weights do not include.

    Random weights are initialised as in torchvision (He et al., 2015), and those of conv6 by Xavier's rule. With
    pretrained weights, the channel of the trimap starts at zero (`modeling.weights.input_channels`).

    Args:
        in_chans: number of input channels: RGB, then those of the trimap.
        widths: channels of the five stages; published weights need those of VGG-16.
        batch_norm: whether batch normalisation follows each convolution, including conv6, as in MMagic's variant. It
            needs batches of several images.
    """

    patch_size = 32

    def __init__(self, in_chans: int = 4, widths: Sequence[int] = WIDTHS, batch_norm: bool = False) -> None:
        super().__init__()
        if len(widths) != len(DEPTHS) or not all(isinstance(width, int) and width >= 1 for width in widths):
            raise InputError(f"VGG16: widths must be {len(DEPTHS)} numbers of channels, got {list(widths)}")
        self.in_chans = in_chans
        self.widths = tuple(widths)
        self.embed_dim = widths[-1]
        before = (in_chans, *widths)
        self.layer1, self.layer2, self.layer3, self.layer4, self.layer5 = (
            _stage(chans, width, depth, batch_norm) for chans, width, depth in zip(before, widths, DEPTHS, strict=False)
        )
        self.conv6 = nn.Conv2d(self.embed_dim, self.embed_dim, 1)
        if batch_norm:
            self.bn = nn.BatchNorm2d(self.embed_dim)
        self.batch_norm = batch_norm
        self._init_weights()

    @property
    def peak_floats(self) -> float:
        """Floats per pixel at the peak, in the first stage: input, output and workspace, as measured."""
        return self.in_chans + (5.5 if self.batch_norm else 4) * self.widths[0]

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, in_chans, H, W), multiples of 32, to (B, C, H / 32, W / 32). `needed` has no effect."""
        return self.with_places(x)[0]

    def with_places(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Result of `forward`, and the positions of the maxima of the five pools (see `max_pool`), the finest first."""
        places = []
        for stage in self._stages():
            x, place = max_pool(stage(x))
            places.append(place)
        x = self.conv6(x)
        return (self.bn(x) if self.batch_norm else x).relu_(), places

    def parameter_layers(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Layers: each convolution of the stages with its batch norm. conv6 is new and not included."""
        layer = -1
        for module in (module for stage in self._stages() for module in stage):
            layer += isinstance(module, nn.Conv2d)
            yield from ((parameter, layer) for parameter in module.parameters())

    def _stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4, self.layer5

    @torch.no_grad()
    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.xavier_normal_(self.conv6.weight)


def _stage(in_chans: int, width: int, depth: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers.append(nn.Conv2d(width if index else in_chans, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] * batch_norm
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
