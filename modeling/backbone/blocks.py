"""The parts of a transformer block, under the names that DINOv3's and ViTMatte's checkpoints give them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from modeling.backbone.rope import rotate
from modeling.backbone.windows import windowed_attention


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each: (B, in_chans, H, W) -> (B, H/p * W/p, dim), and the grid."""

    def __init__(self, in_chans: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        x = self.proj(x)  # (B, dim, H/p, W/p)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[-2:])


class Attention(nn.Module):
    """Multi-head self-attention through PyTorch's fused kernels: memory linear in the number of tokens.

    The key bias is held at zero. In the softmax a key bias cancels unless rotary positions are used, and there
    DINOv3 masks it ("mask_k_bias"), so zero is right for every checkpoint this project reads.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        key_mask = torch.ones(3, dim)
        key_mask[1] = 0
        self.register_buffer("key_bias_mask", key_mask.flatten(), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        grid: tuple[int, int],
        rotation: tuple[Tensor, Tensor] | None,
        window_size: int,
        prefix_update: str,
    ) -> Tensor:
        """(B, P + HW, dim) -> the same; `rotation` as from RotaryPositions, `window_size` 0 for global."""
        batch, length, dim = tokens.shape
        bias = None if self.qkv.bias is None else self.qkv.bias * self.key_bias_mask
        qkv = F.linear(tokens, self.qkv.weight, bias)
        q, k, v = qkv.reshape(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        if window_size:
            out = windowed_attention(q, k, v, grid, window_size, prefix_update)
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, length, dim))


class Mlp(nn.Module):
    """fc1, exact GELU, fc2."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class SwiGLU(nn.Module):
    """w3(SiLU(w1 x) * (w2 x)): w1 the gate, w2 up, w3 down (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim)
        self.w2 = nn.Linear(dim, hidden_dim)
        self.w3 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))


FFN_LAYERS = {"mlp": Mlp, "swiglu": SwiGLU}


class LayerScale(nn.Module):
    """Multiply every channel by a learned factor (Touvron et al., "Going deeper with Image Transformers", 2021)."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map; no copy when the map is in channels-last memory."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualConvBlock(nn.Module):
    """ViTDet's bottleneck "convolution propagation" block: x + [1x1, 3x3, 1x1](x), identity at the start.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", 2022. The last norm starts at
    zero, so pretrained features pass through untouched until training opens the branch.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // 2
        self.conv1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.norm1 = ChannelLayerNorm(hidden, eps=1e-6)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.norm2 = ChannelLayerNorm(hidden, eps=1e-6)
        self.conv3 = nn.Conv2d(hidden, dim, 1, bias=False)
        self.norm3 = ChannelLayerNorm(dim, eps=1e-6)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm3.weight)
        nn.init.zeros_(self.norm3.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = F.gelu(self.norm1(self.conv1(x)))
        out = F.gelu(self.norm2(self.conv2(out)))
        return x + self.norm3(self.conv3(out))


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale, and ViTDet's convolution block after it where asked for."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        hidden_dim: int,
        ffn: str,
        qkv_bias: bool,
        norm_layer: type[nn.Module],
        layer_scale_init: float | None,
        drop_path: float,
        window_size: int,
        pad_windows: bool,
        prefix_update: str,
        use_residual: bool,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.pad_windows = pad_windows
        self.prefix_update = prefix_update
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias)
        self.ls1 = nn.Identity() if layer_scale_init is None else LayerScale(dim, layer_scale_init)
        self.norm2 = norm_layer(dim)
        self.mlp = FFN_LAYERS[ffn](dim, hidden_dim)
        self.ls2 = nn.Identity() if layer_scale_init is None else LayerScale(dim, layer_scale_init)
        self.drop_path = StochasticDepth(drop_path, "row")
        self.residual = ResidualConvBlock(dim) if use_residual else None

    def forward(self, x: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, P + HW, dim) -> the same, for a grid of H x W patches after P prefix tokens."""
        x = x + self.drop_path(self.ls1(self._attend(self.norm1(x), grid, rotation)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return x if self.residual is None else self._convolve(x, grid)

    def _attend(self, x: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        if not (self.window_size and self.pad_windows):
            return self.attn(x, grid, rotation, self.window_size, self.prefix_update)
        padded_grid = padded_to_windows(grid, self.window_size)
        prefix, patches = _split(x, grid)
        padding = (0, 0, 0, padded_grid[1] - grid[1], 0, padded_grid[0] - grid[0])
        padded = torch.cat([prefix, F.pad(patches, padding).flatten(1, 2)], dim=1)
        out = self.attn(padded, padded_grid, rotation, self.window_size, self.prefix_update)
        prefix, patches = _split(out, padded_grid)
        return torch.cat([prefix, patches[:, : grid[0], : grid[1]].flatten(1, 2)], dim=1)

    def _convolve(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        prefix, patches = _split(x, grid)
        patches = self.residual(patches.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return torch.cat([prefix, patches.flatten(1, 2)], dim=1)


def padded_to_windows(grid: tuple[int, int], window_size: int) -> tuple[int, int]:
    """Round rows and columns of a patch grid up to whole windows."""
    return tuple(length + -length % window_size for length in grid)


def _split(x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(B, P + HW, dim) -> prefix (B, P, dim) and patches (B, H, W, dim)."""
    num_prefix = x.shape[1] - grid[0] * grid[1]
    return x[:, :num_prefix], x[:, num_prefix:].unflatten(1, grid)
