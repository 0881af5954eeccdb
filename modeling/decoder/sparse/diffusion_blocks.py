"""Blocks of DiffMatte's decoder, evaluated where their maps are read, in packed rows whose indices serve all steps.

A doubling block's transposed convolution and its convolution of the upsampled map are equivalent to four 3x3
convolutions of the small map each, for the even and odd rows and columns. One Winograd transform of the small map
serves all eight. At the border, upsampling repeats pixels where the convolutions read zeros, so the shortcut is
computed directly there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeling.decoder.sparse.folding import fold_norm
from modeling.decoder.sparse.packed import BlockRows, Pixels, RowIndex, Scratch, split
from modeling.decoder.sparse.parallel import Workers
from modeling.decoder.sparse.receptive_field import dilate, halve
from modeling.decoder.sparse.upsampled_conv import axis_weights
from modeling.decoder.sparse.winograd import PATCH, SIDE, TAPS, BlockConv, point_values, point_weights


def flat_taps(weight: Tensor) -> Tensor:
    """(out, in, k, k) -> (k * k * in, out), for rows of patches."""
    return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


class SecondConv:
    """ReLU(norm(conv2(y)) + shortcut). The shortcut includes the bias of the norm."""

    def __init__(self, conv: BlockConv, blocks: Pixels, index: RowIndex, rows: BlockRows) -> None:
        """`index` is that of y and of the shortcut. `rows` are the rows to write; they receive the blocks' rows."""
        self._conv = conv
        self._pieces = [
            (written, index.squares(piece, 1, PATCH).flatten(), index.squares(piece, 0, SIDE).flatten())
            for piece, written in rows.append(blocks)
        ]

    def __call__(self, workers: Workers, y: Tensor, shortcut: Tensor, out: Tensor, relu: bool = True) -> None:
        def compute(item: tuple[slice, Tensor, Tensor]) -> None:
            written, around, own = item
            pixels = out[written]
            torch.index_select(shortcut, 0, own, out=pixels)
            self._conv(point_values(y.index_select(0, around)), None, pixels, add=True)
            if relu:
                pixels.relu_()

        workers.for_each(compute, self._pieces)


class HalvingWeights:
    """Convolutions of a DownBlock with their norms folded in."""

    def __init__(self, block: nn.Module) -> None:
        self.time = block.emb_layers
        first, self.bias = fold_norm(block.conv1, block.bn1)
        second, self.shortcut_bias = fold_norm(block.conv2, block.bn2)
        self.first, self.shortcut = first, block.downsample["op"].weight
        self.second = BlockConv.of(second)


class Halving:
    """A DownBlock, evaluated where its map is read.

    Attributes:
        index: rows of the pixels of its map.
    """

    def __init__(
        self,
        workers: Workers,
        weights: HalvingWeights,
        finer: RowIndex,
        mask: Tensor,
        scratch: Sequence[Scratch],
        still: Tensor | None,
    ) -> None:
        """Set up for the pixels of `mask` (B, h, W).

        Args:
            finer: index of the map that is read.
            scratch: two scratch memories.
            still: rows of the first input channels if no step changes them; the others are the remaining channels.
        """
        self._weights = weights
        self._scratch = scratch
        pixels = Pixels.where(dilate(mask))
        self._count = len(pixels.image)
        channels = len(weights.bias)
        inner = RowIndex.of(pixels, tuple(mask.shape))
        corners = Pixels(pixels.image, 2 * pixels.y, 2 * pixels.x)
        static = 0 if still is None else still.shape[1]
        convs = [(weights.first, weights.bias), (weights.shortcut, weights.shortcut_bias)]
        self._kernels = [flat_taps(weight[:, static:]) for weight, _ in convs]
        still_kernels = [flat_taps(weight[:, :static]) for weight, _ in convs]
        self._pieces = []
        for piece in split(self._count, workers, SIDE**2):
            read = finer.squares(corners.select(piece), 1, TAPS).T.flatten()
            sums = [bias for _, bias in convs]
            if still is not None:
                patches = still.index_select(0, read).view(piece.stop - piece.start, -1)
                sums = [torch.addmm(bias, patches, kernel) for bias, kernel in zip(sums, still_kernels, strict=True)]
            self._pieces.append((slice(1 + piece.start, 1 + piece.stop), read, sums))
        rows = BlockRows(workers)
        self._second = SecondConv(weights.second, Pixels.blocks(mask), inner, rows)
        self.index = rows.index(tuple(mask.shape))
        self._rows = weights.bias.new_zeros(1 + rows.count, channels)
        for memory in scratch:
            memory.reserve(self._count, channels)

    def __call__(self, workers: Workers, finer: Tensor, time: Tensor) -> Tensor:
        """Rows of the map, from those of the finer map."""
        shift = self._weights.time(time)
        y, shortcut = (memory.rows(self._count, len(shift)) for memory in self._scratch)

        def compute(item: tuple[slice, Tensor, Sequence[Tensor]]) -> None:
            written, read, sums = item
            patches = finer.index_select(0, read).view(written.stop - written.start, -1)
            for rows, start, kernel in zip((y, shortcut), sums, self._kernels, strict=True):
                torch.addmm(start, patches, kernel, out=rows[written])
            y[written].relu_().add_(shift)

        workers.for_each(compute, self._pieces)
        self._second(workers, y, shortcut, self._rows)
        return self._rows


class DoublingWeights:
    """Convolutions of an UpBlock with their norms folded in, the first two as convolutions of the small map."""

    def __init__(self, block: nn.Module) -> None:
        self.time = block.emb_layers
        scale = block.bn1.weight * torch.rsqrt(block.bn1.running_var + block.bn1.eps)
        self.bias = block.bn1.bias - block.bn1.running_mean * scale
        # output 2 m + p of the transposed convolution reads pixel m + d with tap 1 + p - 2 d
        spread = torch.tensor([[[1 + p - 2 * d == tap for tap in range(4)] for d in (-1, 0, 1)] for p in (0, 1)])
        first = (block.conv1.weight * scale[:, None, None]).transpose(0, 1)
        # Even rows read no later pixel and odd rows no earlier one: six points, at infinity or at zero, are zero.
        spans = [(0, PATCH**2 - PATCH), (PATCH, PATCH**2)]
        self.resized = BlockConv(point_weights(first, spread), spans)
        bilinear = axis_weights(torch.tensor([2]), 2, TAPS, limit=8, dtype=scale.dtype)[0]  # away from the border
        shortcut = block.upsample["conv"].weight
        self.shortcut = BlockConv(point_weights(shortcut, bilinear))
        self.shortcut_taps = flat_taps(shortcut)
        second, self.shortcut_bias = fold_norm(block.conv2, block.bn2)
        self.second = BlockConv.of(second)

    @property
    def channels(self) -> int:
        return len(self.bias)


@dataclass(frozen=True)
class Border:
    """Pixels at the border of a small map, and the shortcut of the four output pixels of each.

    Attributes:
        vertical, horizontal: `axis_weights` of the pixels, (n, 2, 3, 3).
        reads: rows of the surrounding pixels in each map, (n, 3, 3).
        writes: rows of the four output pixels, (4 * n,).
    """

    vertical: Tensor
    horizontal: Tensor
    reads: Sequence[Tensor]
    writes: Tensor

    @classmethod
    def of(cls, pixels: Pixels, index: RowIndex, sources: Sequence[RowIndex], dtype: torch.dtype) -> "Border":
        """Border pixels among `pixels` (n,); `index` is that of the shortcut's rows."""
        height, width = sources[0].shape[1:]
        at_border = (pixels.y == 0) | (pixels.y == height - 1) | (pixels.x == 0) | (pixels.x == width - 1)
        pixels = pixels.select(at_border)
        corners = Pixels(pixels.image, 2 * pixels.y, 2 * pixels.x)
        return cls(
            axis_weights(corners.y, 2, TAPS, 2 * height, dtype),
            axis_weights(corners.x, 2, TAPS, 2 * width, dtype),
            [source.squares(pixels, 1, TAPS).T.reshape(-1, TAPS, TAPS) for source in sources],
            index.squares(corners, 0, 2).T.flatten(),
        )

    def write(self, sources: Sequence[Tensor], kernel: Tensor, bias: Tensor, shortcut: Tensor) -> None:
        patches = torch.cat([rows[read] for rows, read in zip(sources, self.reads, strict=True)], dim=-1)
        upsampled = torch.einsum("npdk,nqel,ndec->npqklc", self.vertical, self.horizontal, patches)
        shortcut[self.writes] = torch.addmm(bias, upsampled.reshape(len(self.writes), -1), kernel)


class Doubling:
    """An UpBlock, evaluated where its map is read, in some of its rows."""

    def __init__(
        self,
        weights: DoublingWeights,
        sources: Sequence[RowIndex],
        mask: Tensor,
        top: int,
        scratch: Sequence[Scratch],
        rows: BlockRows,
    ) -> None:
        """Set up for the pixels of `mask` (B, h, W).

        Args:
            sources: indexes of the maps that are read together.
            mask: pixels of the rows from `top` on, an even number.
            scratch: two scratch memories.
            rows: rows to write; they receive the blocks' rows.
        """
        self._weights = weights
        self._scratch = scratch
        small = Pixels.blocks(halve(dilate(mask)), top // 2)
        inner = BlockRows(rows.workers, scale=2)  # rows of y and of the shortcut
        self._pieces = [
            (written, [source.squares(piece, 1, PATCH).flatten() for source in sources])
            for piece, written in inner.append(small)
        ]
        index = inner.index(tuple(mask.shape), top)
        border = Pixels.where(halve(mask))
        border = Pixels(border.image, border.y + top // 2, border.x)
        self._border = Border.of(border, index, sources, weights.bias.dtype)
        self._second = SecondConv(weights.second, Pixels.blocks(mask, top), index, rows)
        self._count = inner.count
        for memory in scratch:
            memory.reserve(self._count, weights.channels)

    def __call__(self, workers: Workers, sources: Sequence[Tensor], time: Tensor | None, out: Tensor) -> None:
        """Write the rows `out`; without a time, the values before the last ReLU."""
        weights = self._weights
        shift = torch.zeros_like(weights.bias) if time is None else weights.time(time)
        bias = weights.bias + shift
        y, shortcut = (memory.rows(self._count, weights.channels) for memory in self._scratch)

        def compute(item: tuple[slice, Sequence[Tensor]]) -> None:
            written, reads = item
            patches = [rows.index_select(0, read) for rows, read in zip(sources, reads, strict=True)]
            values = point_values(torch.cat(patches, dim=1))
            weights.resized(values, bias, y[written])
            torch.maximum(y[written], shift, out=y[written])  # ReLU plus time, as both sides include the time
            weights.shortcut(values, weights.shortcut_bias, shortcut[written])

        workers.for_each(compute, self._pieces)
        if len(self._border.writes):
            self._border.write(sources, weights.shortcut_taps, weights.shortcut_bias, shortcut)
        self._second(workers, y, shortcut, out, relu=time is not None)


class HeadWeights:
    """Convolutions of the matting head, the first with its norm folded in."""

    def __init__(self, head: nn.Module) -> None:
        conv, norm, _, last = head.matting_convs
        weight, self.bias = fold_norm(conv, norm)
        self.conv = BlockConv.of(weight)
        self.last, self.last_bias = last.weight.flatten(1).T, last.bias


class Head:
    """The matting head where alpha is needed, in some rows."""

    def __init__(self, weights: HeadWeights, index: RowIndex, mask: Tensor, top: int, rows: BlockRows) -> None:
        """`index` is that of the map that is read. `mask`, `top` and `rows` are as in Doubling."""
        self._weights = weights
        self._pieces = [
            (written, index.squares(piece, 1, PATCH).flatten())
            for piece, written in rows.append(Pixels.blocks(mask, top))
        ]

    def __call__(self, workers: Workers, rows: Tensor, out: Tensor) -> None:
        weights = self._weights

        def compute(item: tuple[slice, Tensor]) -> None:
            written, read = item
            hidden = rows.new_empty(written.stop - written.start, len(weights.bias))
            weights.conv(point_values(rows.index_select(0, read)), weights.bias, hidden)
            torch.addmm(weights.last_bias, hidden.relu_(), weights.last, out=out[written])

        workers.for_each(compute, self._pieces)
