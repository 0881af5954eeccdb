"""DiffMatte's decoder over the steps of one image, for unknown pixels only; values that no step changes are stored.

The receptive field of the unknown pixels is marked at every level, from the output back to the input, and a map
consists of blocks that cover it. The doubling blocks run band by band, so that their memory does not grow with the
image, and no map exists at full resolution.

- The middle block only reads the encoder's features. A step adds the time before its second convolution, which adds a
  constant to each channel. The constant is different at the border, where some taps read the padding.
- The first halving block reads the image through separate channels, whose sums are stored.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from modeling.decoder.padded_constant import PaddedConstant
from modeling.decoder.sparse.diffusion_blocks import (
    Doubling,
    DoublingWeights,
    Halving,
    HalvingWeights,
    Head,
    HeadWeights,
)
from modeling.decoder.sparse.folding import fold_norm
from modeling.decoder.sparse.packed import BlockRows, RowIndex, Scratch
from modeling.decoder.sparse.parallel import Workers
from modeling.decoder.sparse.receptive_field import ReceptiveField, dilate, double
from modeling.decoder.sparse.tiles import SparseMap, mask_tiles

BAND_PIXELS = 2**17  # pixels of a map that are computed together
STEP = 8  # rows; bands are multiples of it


class Shared:
    """Folded weights and scratch memory, shared by the steps of several images or tiles."""

    def __init__(self, decoder: nn.Module) -> None:
        self.halvings = [HalvingWeights(block) for block in decoder.down_blks]
        self.doublings = [DoublingWeights(block) for block in decoder.up_blks]
        self.head = HeadWeights(decoder.matting_head)
        self.inner = Scratch(self.head.bias), Scratch(self.head.bias)
        self.last = Scratch(self.head.bias)


class SparseSteps:
    """Decoder of a batch in eval mode, for any noisy alpha and time, at the pixels that are needed.

    All computations are in float32, under autocast too.

    Args:
        decoder: a DiffusionUNet.
        features, guide: as in DiffusionUNet.forward.
        unknown: (B, 1, H, W) bool, the pixels that are needed.
        shared: weights and memory of earlier steps; None to make them.
    """

    def __init__(
        self, decoder: nn.Module, features: Tensor, guide: Tensor, unknown: Tensor, shared: Shared | None = None
    ) -> None:
        self._decoder = decoder
        self.shared = shared or Shared(decoder)
        with Workers(guide.device) as workers:
            self._prepare(workers, features.float(), guide.float(), unknown[:, 0])

    def _prepare(self, workers: Workers, features: Tensor, guide: Tensor, unknown: Tensor) -> None:
        decoder, shared = self._decoder, self.shared
        depth = len(decoder.down_blks)
        field = ReceptiveField.of(unknown, depth + 1)
        maps = [dilate(unknown), *field.fused]  # pixels that are read of the doubling blocks' maps, fine to coarse
        reads = list(maps)  # pixels that are read of the halving blocks' maps
        for level in reversed(range(1, depth)):  # 3x3 with stride 2 after the 3x3 that reads it
            reads[level] = reads[level] | dilate(double(dilate(reads[level + 1])))

        self._middle = Middle(workers, decoder.mid_blk, features, field.features, maps[-1], shared.inner)
        self._noisy = guide.new_zeros(1 + unknown.numel(), 1)
        self._halvings: list[Halving] = []
        finer, still = RowIndex.where(torch.ones_like(unknown)), SparseMap.whole(guide, torch.float32).rows
        for weights, mask in zip(shared.halvings, reads[1:], strict=True):
            self._halvings.append(Halving(workers, weights, finer, mask, shared.inner, still))
            finer, still = self._halvings[-1].index, None
        *coarse, finest = zip(shared.doublings, reversed(self._halvings), reversed(maps[:-1]), strict=True)
        deep = self._middle.index
        self._levels: list[Level] = []
        for weights, skip, mask in coarse:
            self._levels.append(Level(workers, weights, [deep, skip.index], mask, shared.inner))
            deep = self._levels[-1].index
        weights, skip, _ = finest
        self._last = LastLevel(workers, weights, [deep, skip.index], unknown, shared)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, time: float) -> Tensor:
        """Raw map (B, 1, H, W), 0 at pixels that are not needed.

        Args:
            x_t: (B, 1, H, W), as in DiffusionUNet.forward.
            time: time in [0, 1] of the whole batch.
        """
        with torch.autocast(x_t.device.type, enabled=False), Workers(x_t.device) as workers:
            embedded = self._decoder.embed_time(torch.tensor([time], device=x_t.device))[0]
            self._noisy[1:] = x_t.reshape(-1, 1)
            skips = [self._noisy]
            for halving in self._halvings:
                skips.append(halving(workers, skips[-1], embedded))
            deep = self._middle(embedded)
            for level in self._levels:
                deep = level(workers, [deep, skips.pop()], embedded)
            return self._last(workers, [deep, skips.pop()], embedded).view(x_t.shape)


class Middle:
    """The middle block, to which a step adds the contribution of the time.

    Attributes:
        index: rows of the pixels of its map.
    """

    def __init__(
        self,
        workers: Workers,
        block: nn.Module,
        features: Tensor,
        needed: Tensor,
        mask: Tensor,
        scratch: Sequence[Scratch],
    ) -> None:
        """Compute the map without the time for `mask` (B, h, W), from the features in `needed`."""
        rows = SparseMap.pixels(features, needed, torch.float32).rows
        level = Level(workers, DoublingWeights(block), [RowIndex.where(needed)], mask, scratch)
        self._still = level(workers, [rows], None)
        self._rows = torch.zeros_like(self._still)
        self._time = block.emb_layers
        self.index = level.index
        self._constant = PaddedConstant(fold_norm(block.conv2, block.bn2)[0], tuple(mask.shape[1:]))
        self._kinds = torch.zeros(len(self._rows), dtype=torch.int64, device=mask.device)
        self._kinds[self.index.map.flatten().long()] = self._constant.kinds.expand(mask.shape).flatten()

    def __call__(self, time: Tensor) -> Tensor:
        """Rows of the map."""
        constants = self._constant(self._time(time))
        torch.add(self._still, constants[self._kinds], out=self._rows).relu_()
        self._rows[0] = 0
        return self._rows


class Level:
    """Map of a doubling block.

    Attributes:
        index: rows of its pixels.
    """

    def __init__(
        self,
        workers: Workers,
        weights: DoublingWeights,
        sources: Sequence[RowIndex],
        mask: Tensor,
        scratch: Sequence[Scratch],
    ) -> None:
        """Set up like Doubling, for all of `mask` (B, h, W)."""
        rows = BlockRows(workers)
        self._bands = [Doubling(weights, sources, part, top, scratch, rows) for part, top in bands(mask)]
        self._rows = weights.bias.new_zeros(1 + rows.count, weights.channels)
        self.index = rows.index(tuple(mask.shape))

    def __call__(self, workers: Workers, sources: Sequence[Tensor], time: Tensor | None) -> Tensor:
        """Rows of the map."""
        for band in self._bands:
            band(workers, sources, time, self._rows)
        return self._rows


class LastLevel:
    """Last doubling block and head. The map of a band is overwritten by that of the next."""

    def __init__(
        self, workers: Workers, weights: DoublingWeights, sources: Sequence[RowIndex], unknown: Tensor, shared: Shared
    ) -> None:
        """Set up for the pixels `unknown` (B, H, W)."""
        self._scratch, self._channels = shared.last, weights.channels
        asked = BlockRows(workers)
        self._bands = []
        for part, top in bands(unknown):
            rows = BlockRows(workers)
            doubling = Doubling(weights, sources, dilate(part), top, shared.inner, rows)
            head = Head(shared.head, rows.index(tuple(part.shape), top), part, top, asked)
            self._scratch.reserve(rows.count, self._channels)
            self._bands.append((doubling, rows.count, head))
        self._raw = weights.bias.new_zeros(1 + asked.count, 1)
        self._pixels = (asked.index(tuple(unknown.shape)).map * unknown).flatten()

    def __call__(self, workers: Workers, sources: Sequence[Tensor], time: Tensor) -> Tensor:
        """Raw map, (B * H * W, 1)."""
        for doubling, count, head in self._bands:
            rows = self._scratch.rows(count, self._channels)
            doubling(workers, sources, time, rows)
            head(workers, rows, self._raw)
        return self._raw.index_select(0, self._pixels)


def bands(mask: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield parts of `mask` (B, H, W) of about BAND_PIXELS in whole rows with a margin, and the first row of each."""
    counts = mask_tiles(mask, STEP).sum(dim=(0, 2)).cpu() * STEP**2
    numbers = (counts.cumsum(0) - counts) // BAND_PIXELS
    for number in numbers[counts > 0].unique():
        rows = (numbers == number).nonzero().flatten() * STEP
        start, stop = int(rows[0]), int(rows[-1]) + STEP
        top = max(start - STEP, 0)
        part = mask[:, top : stop + STEP].clone()
        part[:, : start - top] = part[:, stop - top :] = False
        yield part, top
