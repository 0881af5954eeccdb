"""Prior Swin: MatteFormer's encoder, a Swin transformer whose windows also attend to the means of the trimap's regions.

Park et al., "MatteFormer: Transformer-Based Image Matting via Prior-Tokens", 2022, on Liu et al., "Swin Transformer:
Hierarchical Vision Transformer using Shifted Windows", 2021. DiffMatte's Swin-T does not have the decoder's shortcuts.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone.base import TOKEN_WIDTHS, Encoder, init_linear_layers
from modeling.backbone.blocks import Mlp, PatchEmbed, StochasticDepth
from modeling.backbone.windows import from_windows, repeat_prefix, to_windows
from modeling.linear import Linear
from runtime.errors import InputError

RGB_CHANS = 3
REGIONS = (1, 0, 2)  # channels of the one-hot trimap in the order of prior tokens: unknown, background, foreground
PATCH = 4  # pixels
MLP_RATIO = 4


class PriorAttention(nn.Module):
    """Window attention whose keys and values are the tokens of the window and all prior tokens.

    Logits have a learned bias for each relative position and for each prior token. Zero tokens fill incomplete windows
    and take part in the attention. A prior token attends only to itself.

    Args:
        num_priors: number of prior tokens, three for each block of the stage up to this one.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, num_priors: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        positions = (2 * window_size - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(positions + num_priors, num_heads))
        nn.init.xavier_normal_(self.relative_position_bias_table)
        nn.init.trunc_normal_(self.relative_position_bias_table[:positions].detach(), std=0.02)
        self.register_buffer("relative_position_index", position_index(window_size, num_priors))
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor, priors: Tensor, apart: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend from every token of the map. The results have the shapes of `x` and `priors`.

        Args:
            x: (B, H, W, C), normalised.
            priors: (B, num_priors, C), normalised.
            apart: for shifted windows (windows, n, n) with n tokens each: -inf for pairs that must not attend.
        """
        batch, height, width, _ = x.shape
        shift = 0 if apart is None else self.window_size // 2
        _, prior_k, prior_v = self._heads(self.qkv(priors)).permute(2, 0, 3, 1, 4)  # (3, B, heads, P, D)
        q, k, v = self._windows(x, shift)  # (B * windows, heads, n, D)
        k, v = (torch.cat([part, repeat_prefix(prior, len(part))], 2) for part, prior in ((k, prior_k), (v, prior_v)))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1).to(q.dtype)
        if apart is None:
            out = F.scaled_dot_product_attention(q, k, v, bias)
        else:  # windows and heads as one axis, for which a bias of four dimensions serves all images
            bias = (bias + F.pad(apart, (0, priors.shape[1]))[:, None].to(q.dtype)).flatten(0, 1)[None]
            joint = (part.view(batch, -1, *part.shape[2:]) for part in (q, k, v))
            out = F.scaled_dot_product_attention(*joint, bias).view_as(q)
        out = self._map(out, batch, height, width).roll((shift, shift), (1, 2))[:, :height, :width]
        return self.proj(out), self.proj(prior_v.transpose(1, 2).flatten(2))

    def _windows(self, x: Tensor, shift: int) -> list[Tensor]:
        """Queries, keys and values of the map's windows, each (B * windows, heads, n, D)."""
        size, (height, width) = self.window_size, x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size)).roll((-shift, -shift), (1, 2))
        maps = self._heads(self.qkv(x)).permute(3, 0, 4, 1, 2, 5)  # (3, B, heads, H', W', D)
        return [to_windows(part, (size, size)) for part in maps]

    def _map(self, windows: Tensor, batch: int, height: int, width: int) -> Tensor:
        """(B * windows, heads, n, D) -> (B, H', W', C), where H' and W' are H and W padded to whole windows."""
        size, (_, heads, _, dim) = self.window_size, windows.shape
        out = windows.new_empty(batch, height + -height % size, width + -width % size, heads, dim)
        from_windows(windows, out.permute(0, 3, 1, 2, 4), (size, size))
        return out.flatten(3)

    def _heads(self, joint: Tensor) -> Tensor:
        """(..., 3 C) -> (..., 3, heads, D)."""
        return joint.unflatten(-1, (3, self.num_heads, -1))


class PriorBlock(nn.Module):
    """A Swin block that adds one set of prior tokens to those of the stage and updates all of them."""

    def __init__(self, dim: int, num_heads: int, window_size: int, num_priors: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PriorAttention(dim, num_heads, window_size, num_priors)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, MLP_RATIO * dim)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor, priors: Tensor, regions: Tensor, apart: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) and (B, P, C) -> (B, H, W, C) and (B, P + 3, C); `regions` is that of `region_means`."""
        priors = torch.cat([priors, region_means(x, regions)], dim=1)
        attended = self.attn(self.norm1(x), self.norm1(priors), apart)
        x, priors = (y + self.drop_path(update) for y, update in zip((x, priors), attended, strict=True))
        return tuple(y + self.drop_path(self.mlp(self.norm2(y))) for y in (x, priors))


class PriorStage(nn.Module):
    """Blocks on one grid. Every other block has shifted windows; the first has no earlier prior tokens."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, drop_paths: Sequence[float], downsample: bool
    ) -> None:
        super().__init__()
        from torchvision.models.swin_transformer import PatchMerging  # imported here because it takes two seconds

        self.window_size = window_size
        self.blocks = nn.ModuleList(
            PriorBlock(dim, num_heads, window_size, len(REGIONS) * (index + 1), drop_path)
            for index, drop_path in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if downsample else nn.Identity()

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """(B, H, W, C) -> the same, or half the size and twice as wide."""
        priors = x[:, :0, 0]
        apart = separation(x.shape[1:3], self.window_size, x.device)
        for index, block in enumerate(self.blocks):
            x, priors = block(x, priors, regions, apart if index % 2 else None)
        return self.downsample(x)


class NormedPatchEmbed(PatchEmbed):
    """Patches projected and normalised, as a map: (B, in_chans, H, W) -> (B, H / p, W / p, dim)."""

    def __init__(self, in_chans: int, embed_dim: int, patch_size: int) -> None:
        super().__init__(in_chans, embed_dim, patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens, grid = super().forward(x)
        return self.norm(tokens).unflatten(1, grid)


class PriorSwin(Encoder):
    """Encoder of RGB and a one-hot trimap to the features of the last stage, without a final norm.

    Parameter names are those of Swin, MatteFormer and DiffMatte checkpoints. The defaults are Swin-T.

    Args:
        width: channels of the first stage; each later stage has twice as many.
        depths: number of blocks of each stage.
        num_heads: number of heads of each stage.
        window_size: side of a window in tokens.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.
    """

    in_chans = 6

    def __init__(
        self,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        drop_path_rate: float = 0.3,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise InputError(f"PriorSwin: expected depths and num_heads of one length, got {depths} and {num_heads}")
        last = len(depths) - 1
        self.patch_size = PATCH * 2**last
        self.embed_dim = width * 2**last
        self.patch_embed = NormedPatchEmbed(self.in_chans, width, PATCH)
        step = drop_path_rate / max(1, sum(depths) - 1)
        drop_paths = (step * index for index in count())
        self.layers = nn.ModuleList(
            PriorStage(width * 2**stage, heads, window_size, [next(drop_paths) for _ in range(depth)], stage < last)
            for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True))
        )
        self._init_weights()

    @property
    def peak_floats(self) -> float:
        """Floats per pixel at the peak, in the first stage, whose maps are twice as large as those of the second."""
        return TOKEN_WIDTHS * self.patch_embed.proj.out_channels / PATCH**2

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, 6, H, W) to (B, C, ceil(H / p), ceil(W / p)), zero-padded. `needed` has no effect.

        Args:
            x: RGB, then background, unknown and foreground as `encode_trimap` returns them.
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch_size, 0, -height % self.patch_size))
        regions = x[:, [RGB_CHANS + region for region in REGIONS], ::PATCH, ::PATCH]
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x, regions)
            regions = regions[..., ::2, ::2]
        return x.permute(0, 3, 1, 2)

    def parameter_layers(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Layers: 0 is the patch embedding, i + 1 is block i over all stages together with the merging after it."""
        yield from ((parameter, 0) for parameter in self.patch_embed.parameters())
        index = 0
        for layer in self.layers:
            for block in layer.blocks:
                index += 1
                yield from ((parameter, index) for parameter in block.parameters())
            yield from ((parameter, index) for parameter in layer.downsample.parameters())

    def token_parameters(self) -> Iterator[nn.Parameter]:
        """Tables of relative positions, which are not decayed in Swin's training."""
        return (parameter for name, parameter in self.named_parameters() if name.endswith("_bias_table"))

    def _init_weights(self) -> None:
        init_linear_layers(self)
        weight = self.patch_embed.proj.weight.detach()
        weight[:, RGB_CHANS:] = nn.init.xavier_normal_(torch.empty_like(weight))[:, RGB_CHANS:]


def region_means(x: Tensor, regions: Tensor) -> Tensor:
    """Mean features of each region, 0 if it is empty: (B, H, W, C), (B, R, H, W) of 0 and 1 -> (B, R, C)."""
    with torch.autocast(x.device.type, enabled=False):  # half precision cannot hold sums over a whole picture
        masks = regions.flatten(2).float()
        sums = masks @ x.flatten(1, 2).float()
    return (sums / masks.sum(-1, keepdim=True).clamp(min=1)).to(x.dtype)


def position_index(window_size: int, num_priors: int) -> Tensor:
    """Rows of the bias table, (n, n + num_priors) for n tokens of a window: relative positions, then prior tokens."""
    places = torch.arange(window_size**2)
    offsets = [axis[:, None] - axis + window_size - 1 for axis in (places // window_size, places % window_size)]
    width = 2 * window_size - 1
    priors = torch.arange(width**2, width**2 + num_priors).expand(len(places), -1)
    return torch.cat([offsets[0] * width + offsets[1], priors], dim=1)


def separation(grid: Sequence[int], window_size: int, device: torch.device) -> Tensor:
    """Bias between tokens of shifted windows, -inf between opposite ends of the picture: (windows, n, n).

    The shift wraps around, so the last window of each row and column has tokens from opposite ends.
    """
    shift = window_size // 2
    places = [torch.arange(length + -length % window_size, device=device) for length in grid]
    parts = [
        (axis >= len(axis) - window_size).int() + (axis >= len(axis) - shift).int() for axis in places
    ]  # 0, 1 or 2 along each axis
    labels = to_windows((3 * parts[0][:, None] + parts[1])[None, None, ..., None], (window_size, window_size))
    labels = labels.flatten(1)  # (windows, n)
    apart = labels[:, :, None] != labels[:, None]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, float("-inf"))
