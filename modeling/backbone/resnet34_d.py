"""ResNet-34-D with spectral normalisation: the encoder of GCA-Matting and of DiffMatte's smallest model.

Li and Lu, "Natural Image Matting via Guided Contextual Attention", 2020. The stem and the shortcuts of "D" are from He
et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", 2019.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone.base import Encoder

RGB_CHANS = 3
DEPTHS = (3, 4, 4, 2)  # GCA-Matting's; the usual ResNet-34 has (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)


class SpectralKernel(nn.Module):
    """Kernel of a convolution divided by its largest singular value (Miyato et al., "Spectral Normalization", 2018).

    In training mode each call refines the estimates of the singular vectors by one step of power iteration; in eval
    mode they are constant. They are buffers without gradient and are normalised when they are read, so that an average
    of several states of a model is also divided by the right value.
    """

    def __init__(self, out_chans: int, in_chans: int, size: int) -> None:
        super().__init__()
        self.register_buffer("weight_u", F.normalize(torch.randn(out_chans), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(in_chans * size**2), dim=0))
        self.weight_bar = nn.Parameter(torch.empty(out_chans, in_chans, size, size))
        nn.init.xavier_uniform_(self.weight_bar)

    def forward(self) -> Tensor:
        """Normalised kernel, (out_chans, in_chans, size, size)."""
        with torch.autocast(self.weight_bar.device.type, enabled=False):  # half precision would change features by 1 %
            matrix = self.weight_bar.flatten(1)
            if self.training:
                self._iterate(matrix.detach())
            u, v = F.normalize(self.weight_u, dim=0), F.normalize(self.weight_v, dim=0)
            return self.weight_bar / (u @ matrix @ v)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        self.weight_v.copy_(F.normalize(self.weight_u @ matrix, dim=0))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0))


class SpectralConv2d(nn.Module):
    """Convolution without bias and with a spectrally normalised kernel; an odd `size` keeps the size of the map."""

    def __init__(self, in_chans: int, out_chans: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.padding = stride, size // 2
        self.module = SpectralKernel(out_chans, in_chans, size)  # the attribute's name in GCA-Matting's checkpoints

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.module(), stride=self.stride, padding=self.padding)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that halves the size by averaging. At the start only the shortcut acts."""

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.conv1 = SpectralConv2d(in_chans, out_chans, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.conv2 = SpectralConv2d(out_chans, out_chans, 3)
        self.bn2 = nn.BatchNorm2d(out_chans)
        nn.init.zeros_(self.bn2.weight)
        self.downsample = nn.Identity()
        if stride > 1:
            shortcut = SpectralConv2d(in_chans, out_chans, 1)
            self.downsample = nn.Sequential(nn.AvgPool2d(stride), shortcut, nn.BatchNorm2d(out_chans))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x), inplace=True)


class ResNet34D(Encoder):
    """Four stages of residual blocks after a stem of three convolutions; the result is the last stage's features.

    Parameter names are those of GCA-Matting's and DiffMatte's checkpoints.

    Args:
        in_chans: number of input channels: RGB, then those of the trimap, whose weights start at zero.
    """

    patch_size = 32
    embed_dim = WIDTHS[-1]
    peak_floats = 24.0  # at the stem: input, convolution and batch norm, 32 channels each at a quarter of the pixels

    def __init__(self, in_chans: int = 6) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.conv1 = SpectralConv2d(in_chans, 32, 3, stride=2)
        self.conv2 = SpectralConv2d(32, 32, 3)
        self.conv3 = SpectralConv2d(32, WIDTHS[0], 3, stride=2)
        self.bn1 = nn.BatchNorm2d(32)
        self.bn2 = nn.BatchNorm2d(32)
        self.bn3 = nn.BatchNorm2d(WIDTHS[0])
        nn.init.zeros_(self.conv1.module.weight_bar[:, RGB_CHANS:].detach())
        stages, width = [], WIDTHS[0]
        for depth, out_width in zip(DEPTHS, WIDTHS, strict=True):
            strides = [1 if out_width == width else 2] + [1] * (depth - 1)
            widths = [width] + [out_width] * (depth - 1)
            blocks = [BasicBlock(chans, out_width, stride) for chans, stride in zip(widths, strides, strict=True)]
            stages.append(nn.Sequential(*blocks))
            width = out_width
        self.layer1, self.layer2, self.layer3, self.layer_bottleneck = stages

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, in_chans, H, W) to (B, 512, ceil(H / 32), ceil(W / 32)), zero-padded. `needed` has no effect."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)), inplace=True)
        for stage in self._stages():
            x = stage(x)
        return x

    def parameter_layers(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Layers: 0 is the stem, i + 1 is residual block i over all stages."""
        for module in (self.conv1, self.conv2, self.conv3, self.bn1, self.bn2, self.bn3):
            yield from ((parameter, 0) for parameter in module.parameters())
        blocks = [block for stage in self._stages() for block in stage]
        for index, block in enumerate(blocks):
            yield from ((parameter, index + 1) for parameter in block.parameters())

    def _stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer_bottleneck
