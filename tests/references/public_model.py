"""The network of manic-cui/DINOv3-ViTMatte restated from its description: what benchmarks compare with.

No CLS or register tokens; every block builds its own rotary table; windowed blocks pad the normed map with zeros to
whole windows, which then take part in the softmax, and restart the coordinates in every window; global attention is
fused. Weights are random: only time and memory are of interest.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone.blocks import LayerScale, Mlp, ResidualConvBlock


class PublicAttention(nn.Module):
    """Attention over a (B, H, W, C) map with rotary coordinates of that map."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        frequencies = dim // num_heads // 4
        self.register_buffer("periods", 100 ** (2 * torch.arange(frequencies) / (2 * frequencies)))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        sin, cos = self._table(height, width)
        q = q * cos + _rotate_half(q) * sin
        k = k * cos + _rotate_half(k) * sin
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, dim))

    def _table(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        rows = (torch.arange(height, device=self.periods.device) + 0.5) / height
        columns = (torch.arange(width, device=self.periods.device) + 0.5) / width
        coordinates = 2 * torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1) - 1
        angles = (2 * math.pi * coordinates[:, :, None] / self.periods).flatten(1).tile(2)
        return angles.sin(), angles.cos()


class PublicBlock(nn.Module):
    """Pre-norm block over a (B, H, W, C) map, windowed where `window_size` is not 0."""

    def __init__(self, dim: int, num_heads: int, window_size: int, use_residual: bool) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = PublicAttention(dim, num_heads)
        self.ls1, self.ls2 = LayerScale(dim, 1e-5), LayerScale(dim, 1e-5)
        self.mlp = Mlp(dim, 4 * dim)
        self.residual = ResidualConvBlock(dim) if use_residual else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut, x = x, self.norm1(x)
        if self.window_size:
            windows, padded = _partition(x, self.window_size)
            x = _unpartition(self.attn(windows), self.window_size, padded, shortcut.shape[1:3])
        else:
            x = self.attn(x)
        x = shortcut + self.ls1(x)
        x = x + self.ls2(self.mlp(self.norm2(x)))
        if self.residual is not None:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class PublicDecoder(nn.Module):
    """ViTMatte's detail capture as its authors write it: convolution, batch norm and ReLU one after the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(a, b, stride=2) for a, b in ((4, 48), (48, 96), (96, 192)))
        fusions = ((dim + 192, 256), (256 + 96, 128), (128 + 48, 64), (64 + 4, 32))
        self.fusions = nn.ModuleList(_conv(a, b, stride=1) for a, b in fusions)
        self.head = nn.Sequential(
            nn.Conv2d(32, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.Conv2d(16, 1, 1)
        )

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        details = [images]
        for conv in self.convs:
            details.append(conv(details[-1]))
        for fusion in self.fusions:
            upscaled = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = fusion(torch.cat([details.pop(), upscaled], dim=1))
        return self.head(features).sigmoid()


class PublicMatting(nn.Module):
    """Backbone and decoder: (B, 4, H, W) with sides divisible by 32 -> alpha (B, 1, H, W)."""

    def __init__(self, dim: int, depth: int, num_heads: int, windowed: list[int], residual: list[int]) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(4, dim, 16, stride=16)
        self.blocks = nn.ModuleList(
            PublicBlock(dim, num_heads, 14 if index in windowed else 0, index in residual) for index in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.decoder = PublicDecoder(dim)

    def forward(self, x: Tensor) -> Tensor:
        features = self.patch_embed(x).permute(0, 2, 3, 1)
        for block in self.blocks:
            features = block(features)
        return self.decoder(self.norm(features).permute(0, 3, 1, 2), x)


def _conv(in_chans: int, out_chans: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_chans, out_chans, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_chans), nn.ReLU(inplace=True))


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _partition(x: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    batch, height, width, dim = x.shape
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    rows, columns = x.shape[1] // size, x.shape[2] // size
    windows = x.view(batch, rows, size, columns, size, dim).permute(0, 1, 3, 2, 4, 5)
    return windows.reshape(-1, size, size, dim), (rows * size, columns * size)


def _unpartition(windows: Tensor, size: int, padded: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    rows, columns = padded[0] // size, padded[1] // size
    x = windows.view(-1, rows, columns, size, size, windows.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, *padded, windows.shape[-1])[:, : grid[0], : grid[1]].contiguous()
