"""Parts of a transformer block, with the parameter names of DINOv3's and ViTMatte's checkpoints."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone.relative_positions import num_distances, relative_attention
from modeling.backbone.rope import rotate
from modeling.backbone.windows import windowed_attention
from modeling.linear import Linear, linear


class PatchEmbed(nn.Module):
    """Cut an image into patches and project each: (B, in_chans, H, W) -> (B, H/p * W/p, dim), and the grid."""

    def __init__(self, in_chans: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        x = self._projected(x)  # (B, dim, H/p, W/p)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[-2:])

    def _projected(self, x: Tensor) -> Tensor:
        """Project the patches. A CPU computes in float32; the result has the dtype of autocast.

        With the oneDNN of torch 2.15, on Intel CPUs with AMX, a bfloat16 convolution of 4 or 8 channels with a kernel
        and a stride of 16 is wrong by 40 % of its standard deviation.
        """
        if not (x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return self.proj(x)
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return self.proj(x.float()).to(dtype)


class Attention(nn.Module):
    """Multi-head self-attention with PyTorch's fused kernels, whose memory is linear in the number of tokens.

    Only the query and value parts of the joint bias have an effect. A key bias adds q . b to every logit of a query and
    cancels in the softmax, also with relative positions, whose terms depend on the query alone. It would only matter
    with rotary positions, and there DINOv3 masks it ("mask_k_bias"). A key bias of zero is therefore right for every
    checkpoint that this project reads. The weights of the softmax sum to 1, so the value bias is added after it.
    Padding a window with zero keys and values is then equivalent to padding it with zero tokens.

    Args:
        window_size: side of the attention windows in patches; 0 for global attention.
        pad_windows: whether zero tokens fill incomplete windows.
        prefix_update: update rule of prefix tokens in windowed attention, see `windowed_attention`.
        rel_pos_grid: patches per axis that the tables of relative positions cover, None for no tables.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        *,
        window_size: int = 0,
        pad_windows: bool = False,
        prefix_update: str = "global",
        rel_pos_grid: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.pad_windows = pad_windows
        self.prefix_update = prefix_update
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.rel_pos_h = self.rel_pos_w = None
        if rel_pos_grid is not None:  # zero at the start, as in ViTDet
            self.rel_pos_h, self.rel_pos_w = (
                nn.Parameter(torch.zeros(num_distances(rel_pos_grid), dim // num_heads)) for _ in range(2)
            )

    def forward(self, tokens: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, P + HW, dim) -> the same; `rotation` is a result of `RotaryPositions`."""
        bias = None if self.qkv.bias is None else F.pad(self._query_bias(), (0, 2 * tokens.shape[-1]))
        q, k, v = self._heads(linear(tokens, self.qkv.weight, bias), 3)
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        if self.window_size:
            options = {"zero_padding": self.pad_windows, "attend": self._attend_in_window}
            out = windowed_attention(q, k, v, grid, self.window_size, self.prefix_update, **options)
        elif self.rel_pos_h is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = self._attend_relatively(q, k, v, torch.arange(q.shape[2], device=q.device), grid)
        return self._project(out)

    def at(
        self, tokens: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None, patches: Tensor
    ) -> Tensor:
        """Global attention for some queries: (B, P + HW, dim), patch numbers (n,) -> (B, n, dim)."""
        dim = tokens.shape[-1]
        num_prefix = tokens.shape[1] - grid[0] * grid[1]
        query_bias = None if self.qkv.bias is None else self._query_bias()
        (q,) = self._heads(linear(tokens[:, num_prefix + patches], self.qkv.weight[:dim], query_bias), 1)
        k, v = self._heads(linear(tokens, self.qkv.weight[dim:]), 2)
        if rotation is not None:
            q, k = rotate(q, *(table[patches] for table in rotation)), rotate(k, *rotation)
        if self.rel_pos_h is None:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = self._attend_relatively(q, k, v, patches, grid)
        return self._project(out)

    def _query_bias(self) -> Tensor:
        return self.qkv.bias[: len(self.qkv.bias) // 3]

    def _heads(self, joint: Tensor, parts: int) -> Tensor:
        """(B, N, parts * dim) -> (parts, B, heads, N, head_dim)."""
        return joint.unflatten(-1, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def _attend_in_window(
        self, q: Tensor, k: Tensor, v: Tensor, window: tuple[int, int], key_window: tuple[int, int]
    ) -> Tensor:
        if self.rel_pos_h is None:
            return F.scaled_dot_product_attention(q, k, v)
        columns = torch.arange(window[1], device=q.device)
        places = torch.arange(window[0], device=q.device)[:, None] * key_window[1] + columns
        return self._attend_relatively(q, k, v, places.flatten(), key_window)

    def _attend_relatively(self, q: Tensor, k: Tensor, v: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attention with relative positions; `places` (n,) are the queries' patches in the row-major grid of keys."""
        rows, columns = places // grid[1], places % grid[1]
        return relative_attention(q, k, v, self.rel_pos_h, self.rel_pos_w, rows, columns, grid)

    def _project(self, out: Tensor) -> Tensor:
        """(B, heads, N, head_dim) -> (B, N, dim)."""
        out = out.transpose(1, 2).flatten(2)
        if self.qkv.bias is not None:
            out = out + self.qkv.bias[2 * out.shape[-1] :].to(out.dtype)
        return self.proj(out)


class Mlp(nn.Module):
    """fc1, exact GELU, fc2."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim, gelu=True)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))


class SwiGLU(nn.Module):
    """w3(SiLU(w1 x) * (w2 x)): w1 the gate, w2 up, w3 down (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w1 = Linear(dim, hidden_dim)
        self.w2 = Linear(dim, hidden_dim)
        self.w3 = Linear(hidden_dim, dim)

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
    """LayerNorm over the channels of a (B, C, H, W) map. A map in channels-last memory is not copied."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualConvBlock(nn.Module):
    """ViTDet's bottleneck "convolution propagation" block: x + [1x1, 3x3, 1x1](x), identity at the start.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", 2022. The last norm starts at
    zero, so pretrained features pass unchanged until training changes it.
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


class MergeProjection(nn.Module):
    """Normalise and project the tokens of one block, zero at the start, to be added to the last features."""

    def __init__(self, dim: int, norm_layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm = norm_layer(dim)
        self.proj = Linear(dim, dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> the same."""
        return self.proj(self.norm(x))


class StochasticDepth(nn.Dropout):
    """Dropout of whole samples: in training, each is zeroed with probability `p` and otherwise divided by 1 - p.

    Huang et al., "Deep Networks with Stochastic Depth", 2016. torchvision has the same with mode "row", but importing
    torchvision takes as long as importing torch.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same."""
        if not self.training or not self.p:
            return x
        return x * super().forward(x.new_ones(len(x), *[1] * (x.ndim - 1)))


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale, optionally followed by ViTDet's convolution block."""

    def __init__(
        self,
        dim: int,
        *,
        attention: Attention,
        hidden_dim: int,
        ffn: str,
        norm_layer: type[nn.Module],
        layer_scale_init: float | None,
        drop_path: float,
        use_residual: bool,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = attention
        self.ls1 = nn.Identity() if layer_scale_init is None else LayerScale(dim, layer_scale_init)
        self.norm2 = norm_layer(dim)
        self.mlp = FFN_LAYERS[ffn](dim, hidden_dim)
        self.ls2 = nn.Identity() if layer_scale_init is None else LayerScale(dim, layer_scale_init)
        self.drop_path = StochasticDepth(drop_path)
        self.residual = ResidualConvBlock(dim) if use_residual else None

    def forward(self, x: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, P + HW, dim) -> the same, for a grid of H x W patches after P prefix tokens."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), grid, rotation)))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return x if self.residual is None else self.convolve(x, grid)

    def convolve(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Apply the residual convolutions to the patch tokens of (B, P + HW, dim)."""
        num_prefix = x.shape[1] - grid[0] * grid[1]
        prefix, patches = x[:, :num_prefix], x[:, num_prefix:].unflatten(1, grid)  # (B, P, dim), (B, H, W, dim)
        patches = self.residual(patches.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([prefix, patches], dim=1) if num_prefix else patches
