"""DiffMatte's decoder over the steps of one picture: what no step changes is computed once, for unknown pixels only.

Every level's receptive field is marked from the unknown pixels back to the input, and a map exists in blocks that cover
it. The doubling blocks run band by band, so that what they compute inside does not grow with the picture, and no map
exists at full resolution.

- The block in the middle reads the encoder's features only. A step adds the time before its second convolution, which
  adds a constant to each channel, another one at the border, where some taps read the padding.
- The first halving block reads the picture through channels of its own, whose sums are kept.
"""

from collections.abc import Iterator

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
from modeling.decoder.sparse.receptive_field import ReceptiveField, dilate, double
from modeling.decoder.sparse.tiles import SparseMap, mask_tiles

BAND_PIXELS = 2**17  # of a map, computed together
STEP = 8  # rows that bands are made of


class SparseSteps:
    """The decoder of a batch in eval mode, for any noisy alpha and time, where alpha is asked for.

    Args:
        decoder: a DiffusionUNet.
        features, guide: as in DiffusionUNet.forward.
        unknown: (B, 1, H, W) bool, the pixels asked for.
    """

    def __init__(self, decoder: nn.Module, features: Tensor, guide: Tensor, unknown: Tensor) -> None:
        self._decoder = decoder
        features, guide, unknown = features.float(), guide.float(), unknown[:, 0]
        depth = len(decoder.down_blks)
        field = ReceptiveField.of(unknown, depth + 1)
        maps = [dilate(unknown), *field.fused]  # what is read of the doubling blocks' maps, fine to coarse
        scratch = Scratch(guide), Scratch(guide)
        self._middle = Middle(decoder.mid_blk, features, field.features, maps[-1], scratch)

        reads = list(maps)
        for level in reversed(range(1, depth)):  # 3x3 with stride 2, on what 3x3 reads
            reads[level] = reads[level] | dilate(double(dilate(reads[level + 1])))
        finer = RowIndex.where(torch.ones_like(unknown))
        self._noisy = guide.new_zeros(1 + unknown.numel(), 1)
        self._halvings = []
        known = SparseMap.whole(guide, torch.float32).rows
        for block, mask in zip(decoder.down_blks, reads[1:], strict=True):
            self._halvings.append(Halving(HalvingWeights(block), finer, mask, scratch, known))
            finer, known = self._halvings[-1].index, None

        deep, channels = self._middle.index, self._middle.channels
        self._doublings = []
        for block, skip, mask in zip(decoder.up_blks, reversed(self._halvings), reversed(maps[:-1]), strict=True):
            weights = DoublingWeights(block, [channels, skip.rows.shape[1]])
            sources, channels = [deep, skip.index], weights.channels
            if block is not decoder.up_blks[-1]:
                self._doublings.append(Level(weights, sources, mask, scratch))
                deep = self._doublings[-1].index
        self._last = LastLevel(weights, HeadWeights(decoder.matting_head), sources, unknown, scratch)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, time: float) -> Tensor:
        """The raw map (B, 1, H, W), 0 where it was not asked for.

        Args:
            x_t: (B, 1, H, W), as in DiffusionUNet.forward.
            time: in [0, 1], of all the batch.
        """
        with torch.autocast(x_t.device.type, enabled=False):
            embedded = self._decoder.embed_time(torch.tensor([time], device=x_t.device))[0]
            self._noisy[1:] = x_t.reshape(-1, 1)
            rows = self._noisy
            for halving in self._halvings:
                halving(rows, embedded)
                rows = halving.rows
            skips = [halving.rows for halving in self._halvings]
            deep = self._middle(embedded)
            for level in self._doublings:
                deep = level([deep, skips.pop()], embedded)
            return self._last([deep, skips.pop()], embedded).view_as(x_t)


class Level:
    """A doubling block's map, band by band.

    Attributes:
        index: the rows of its pixels.
    """

    def __init__(self, weights: DoublingWeights, sources, mask: Tensor, scratch) -> None:
        rows, self._bands = BlockRows(mask.device), []
        for part, top in bands(mask):
            band = Doubling(weights, sources, part, top, scratch, rows)
            self._bands.append(band)
        self.index = rows.index(tuple(mask.shape))
        self._rows = weights.bias.new_zeros(1 + rows.count, weights.channels)

    def __call__(self, sources, time: Tensor | None) -> Tensor:
        for band in self._bands:
            band(sources, time, self._rows)
        return self._rows


class LastLevel:
    """The last doubling block and the head, band by band."""

    def __init__(self, weights, head_weights, sources, unknown: Tensor, scratch) -> None:
        self._channels = weights.channels
        self._memory = Scratch(weights.bias)
        asked, self._bands = BlockRows(unknown.device), []
        for part, top in bands(unknown):
            rows = BlockRows(part.device)
            doubling = Doubling(weights, sources, dilate(part), top, scratch, rows)
            index = rows.index(tuple(part.shape), top)
            head = Head(head_weights, index, part, top, asked)
            self._memory.reserve(rows.count, self._channels)
            self._bands.append((doubling, rows.count, head))
        self._raw = weights.bias.new_zeros(1 + asked.count, 1)
        self._pixels = (asked.index(tuple(unknown.shape)).map * unknown).flatten()

    def __call__(self, sources, time: Tensor) -> Tensor:
        """The raw map (B * H * W,)."""
        for doubling, count, head in self._bands:
            rows = self._memory.rows(count, self._channels)
            doubling(sources, time, rows)
            head(rows, self._raw)
        return self._raw.index_select(0, self._pixels)


def bands(mask: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield parts of `mask` (B, H, W), each of some BAND_PIXELS in whole rows, with a margin and its first row."""
    counts = mask_tiles(mask, STEP).sum(dim=(0, 2)).cpu() * STEP**2
    numbers = (counts.cumsum(0) - counts) // BAND_PIXELS
    for number in numbers[counts > 0].unique().tolist():
        rows = (numbers == number).nonzero().flatten() * STEP
        start, stop = int(rows[0]), int(rows[-1]) + STEP
        top = max(start - STEP, 0)
        part = mask[:, top : stop + STEP].clone()
        part[:, : start - top] = part[:, stop - top :] = False
        yield part, top


class Middle:
    """The block in the middle, to which a step adds the time's part.

    Attributes:
        index: the rows of its map's pixels.
        channels: of its map.
    """

    def __init__(self, block: nn.Module, features: Tensor, needed: Tensor, mask: Tensor, scratch) -> None:
        weights = DoublingWeights(block, [features.shape[1]])
        rows = SparseMap.pixels(features, needed, torch.float32).rows
        level = Level(weights, [RowIndex.where(needed)], mask, scratch)
        self._static = level([rows], None)
        self.index, self.channels = level.index, weights.channels
        self._rows = torch.empty_like(self._static)
        self._time = block.emb_layers
        weight, _ = fold_norm(block.conv2, block.bn2)
        self._constant = PaddedConstant(weight, tuple(mask.shape[1:]))
        self._kinds = torch.zeros(len(self._static), dtype=torch.int64, device=mask.device)
        self._kinds[self.index.map.flatten().long()] = self._constant.kinds.expand(mask.shape).flatten()

    def __call__(self, time: Tensor) -> Tensor:
        """The rows of the map."""
        constants = self._constant(self._time(time))
        torch.add(self._static, constants[self._kinds], out=self._rows).relu_()
        self._rows[0] = 0
        return self._rows
