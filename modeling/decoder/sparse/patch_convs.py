"""Convolutions of the detail capture decoder with their batch norms folded in, applied to patches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.decoder.gate import gated_alpha
from modeling.decoder.sparse.folding import fold_norm
from modeling.decoder.sparse.tiles import SparseMap, TileList
from modeling.decoder.sparse.upsampled_conv import UpsampledConv, axis_weights, low_length, low_start


@dataclass(frozen=True)
class FoldedConv:
    """3x3 convolution over patches that include their border, (n, side, side, in), in channels-last memory."""

    weight: Tensor  # (out, in, 3, 3)
    bias: Tensor  # (out,)
    stride: int = 1

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> "FoldedConv":
        weight, bias = fold_norm(conv, norm)
        return cls(weight.to(dtype, memory_format=torch.channels_last), bias.to(dtype), conv.stride[0])

    def __call__(self, patches: Tensor) -> Tensor:
        """(n, side, side, in) -> (n, (side - 3) // stride + 1, the same, out)."""
        out = F.conv2d(patches.permute(0, 3, 1, 2), self.weight, self.bias, self.stride)
        return out.permute(0, 2, 3, 1).contiguous()

    def work(self, side: int) -> int:
        """Number of multiplications for side x side outputs."""
        return side**2 * self.weight.numel()


@dataclass(frozen=True)
class FoldedFusion:
    """Convolution of a fusion block, divided between the details and the upsampled features."""

    details: FoldedConv
    upsampled: UpsampledConv

    @classmethod
    def of(cls, block: nn.Module, detail_chans: int, dtype: torch.dtype) -> "FoldedFusion":
        """Fold a FusionBlock whose first `detail_chans` input channels are the details."""
        whole = FoldedConv.of(block.conv.conv, block.conv.bn, dtype)
        weight = whole.weight[:, :detail_chans].contiguous(memory_format=torch.channels_last)
        return cls(FoldedConv(weight, whole.bias), UpsampledConv.of(whole.weight[:, detail_chans:]))

    @property
    def out_chans(self) -> int:
        return len(self.details.bias)

    @property
    def dtype(self) -> torch.dtype:
        return self.details.bias.dtype

    def __call__(self, tiles: TileList, halo: int, details: SparseMap, deep: SparseMap, columns: Tensor) -> Tensor:
        """Fusion before its ReLU, of `tiles` with `halo` pixels around them: (n, side + 2 halo, side + 2 halo, out).

        `deep` is the map to upsample, half the size of `details`; `columns` is from `ColumnWeights`.
        """
        top, left, side = tiles.top - halo, tiles.left - halo, tiles.side + 2 * halo
        low = low_length(side, odd_start=halo % 2 == 1)
        rows = axis_weights(top, side, low, details.size[0], self.dtype)
        out = self.details(details.patches(tiles.image, top - 1, left - 1, side + 2))
        self.upsampled.add_to(out, deep.patches(tiles.image, low_start(top), low_start(left), low), rows, columns)
        return out

    def work(self, side: int, halo: int) -> int:
        """Number of multiplications for a tile."""
        side += 2 * halo
        return self.details.work(side) + self.upsampled.work(side, low_length(side, odd_start=halo % 2 == 1))


class ColumnWeights:
    """Horizontal `axis_weights` of every tile column. All columns but those at the borders have the same."""

    def __init__(self, tiles: TileList, halo: int, width: int, dtype: torch.dtype) -> None:
        side, device = tiles.side + 2 * halo, tiles.column.device
        left = torch.arange(tiles.grid[2]) * tiles.side - halo
        weights = axis_weights(left, side, low_length(side, odd_start=halo % 2 == 1), width, torch.float32)
        kinds, kind_of_column = weights.unique(dim=0, return_inverse=True)
        self.kinds = kinds.to(device, dtype)  # (kinds, side, low, 3)
        self._kind_of_column = kind_of_column.to(device)  # (tile columns,)

    def sort(self, tiles: TileList) -> tuple[TileList, list[int]]:
        """Tiles sorted so that those with the same weights are adjacent, and the number of tiles of each kind."""
        kind, order = self._kind_of_column[tiles.column].sort(stable=True)
        return tiles[order], kind.bincount(minlength=len(self.kinds)).tolist()


class FoldedHead:
    """The matting head and its gate, if it has one."""

    def __init__(self, head: nn.Module, dtype: torch.dtype) -> None:
        conv, norm, _, last = head.matting_convs
        self.conv = FoldedConv.of(conv, norm, dtype)
        self.weight = last.weight.to(dtype).flatten(1)  # (logits, mid)
        self.bias = last.bias.to(dtype)

    def __call__(self, fused: Tensor, candidates: Tensor | None = None) -> Tensor:
        """(n, side + 2, side + 2, in), and for a gate (n, side, side, K) -> alpha (n, side, side), float32."""
        hidden = self.conv(fused).relu_()
        if candidates is None:
            return torch.sigmoid((hidden @ self.weight[0] + self.bias).float())
        return gated_alpha(hidden @ self.weight.T + self.bias, candidates, dim=-1)[..., 0]

    def work(self, side: int) -> int:
        """Number of multiplications for a tile."""
        return self.conv.work(side)
