"""Packed rows: blocks of 4 x 4 pixels of a batch of maps, and an index of the rows of any square of pixels.

Row 0 of the packed rows is zero. Pixels that are not stored, and pixels outside the map, are read from it. Indices are
computed once and serve any number of maps with the same rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.decoder.sparse.costs import costs_on
from modeling.decoder.sparse.parallel import Workers
from modeling.decoder.sparse.tiles import mask_tiles
from modeling.decoder.sparse.winograd import SIDE

MARGIN = 2 * SIDE  # pixels by which blocks and their patches may extend beyond a map


class Pixels(NamedTuple):
    """Pixels of a batch of maps, or the first pixels of squares: image, row and column of each, int64."""

    image: Tensor
    y: Tensor
    x: Tensor

    @classmethod
    def where(cls, mask: Tensor) -> "Pixels":
        """Pixels that are true in `mask` (B, H, W), (n,)."""
        return cls(*mask.nonzero(as_tuple=True))

    @classmethod
    def blocks(cls, mask: Tensor, top: int = 0) -> "Pixels":
        """Blocks that cover `mask` (B, h, W), which has the rows from `top` on of the maps: (n,)."""
        image, row, column = mask_tiles(mask, SIDE).nonzero(as_tuple=True)
        return cls(image, SIDE * row + top, SIDE * column)

    def select(self, index: slice | Tensor) -> "Pixels":
        return Pixels(*(part[index] for part in self))

    def squares(self, side: int) -> "Pixels":
        """All pixels of squares of side `side`: (side^2, n)."""
        span = torch.arange(side, device=self.y.device)
        y, x = torch.broadcast_tensors(span[:, None, None] + self.y, span[:, None] + self.x)
        return Pixels(self.image.expand(side**2, -1), y.flatten(0, 1), x.flatten(0, 1))


class RowIndex:
    """Row number of every pixel of a batch of maps, or of some rows of them."""

    def __init__(self, rows: Tensor, top: int = 0) -> None:
        """`rows` (B, H, W) int32, 0 for none; `top` is the number of its first row in the maps."""
        self.shape = tuple(rows.shape)
        self._padded = F.pad(rows, [MARGIN] * 4)
        self._top = top

    @classmethod
    def of(cls, pixels: Pixels, shape: tuple[int, int, int], top: int = 0) -> "RowIndex":
        """Index of `pixels` (n,) in their order. Pixels outside maps of `shape` (B, H, W) are dropped."""
        y = pixels.y - top
        kept = (y >= 0) & (y < shape[1]) & (pixels.x >= 0) & (pixels.x < shape[2])
        rows = torch.zeros(shape, dtype=torch.int32, device=y.device)
        rows[pixels.image[kept], y[kept], pixels.x[kept]] = 1 + kept.nonzero()[:, 0].int()
        return cls(rows, top)

    @classmethod
    def where(cls, mask: Tensor) -> "RowIndex":
        """Index of the pixels that are true in `mask` (B, H, W), row by row."""
        return cls((mask.flatten().cumsum(0).view(mask.shape) * mask).int())

    @property
    def map(self) -> Tensor:
        """(B, H, W) int32."""
        return self._padded[:, MARGIN:-MARGIN, MARGIN:-MARGIN]

    def squares(self, pixels: Pixels, before: int, side: int) -> Tensor:
        """Rows of squares of `side`, from `before` pixels above and left of `pixels` (n,) on: int32 (side^2, n)."""
        _, height, width = self._padded.shape
        shift = MARGIN - before
        first = (pixels.image * height + pixels.y - self._top + shift) * width + pixels.x + shift
        span = torch.arange(side, device=first.device)
        offset = (span[:, None] * width + span).flatten()
        read = offset[:, None] + first
        return self._padded.view(-1).index_select(0, read.flatten()).view(read.shape)


class BlockRows:
    """Rows of blocks, piece by piece, in the order in which `BlockConv` writes them."""

    def __init__(self, workers: Workers, scale: int = 1) -> None:
        """Start with no blocks.

        Args:
            workers: threads that will compute the pieces.
            scale: 1, or 2 if blocks are those of a map of half the size, each with its four phases.
        """
        self.count = 0  # number of rows, without the row of zeros
        self.workers = workers
        self._scale = scale
        none = torch.zeros(0, dtype=torch.int64, device=workers.device)
        self._pixels = [Pixels(none, none, none)]

    def append(self, blocks: Pixels) -> list[tuple[Pixels, slice]]:
        """Assign rows to blocks; returns pieces of the blocks and the rows of each piece."""
        pieces = []
        for piece in map(blocks.select, split(len(blocks.image), self.workers)):
            small, phases = piece.squares(SIDE), torch.arange(self._scale, device=piece.y.device)
            image, y, x = torch.broadcast_tensors(
                small.image[..., None],
                self._scale * small.y[..., None] + phases.view(-1, 1, 1, 1),
                self._scale * small.x[..., None] + phases,
            )
            self._pixels.append(Pixels(image.flatten(), y.flatten(), x.flatten()))
            start = 1 + self.count
            self.count += self._scale**2 * SIDE**2 * len(piece.image)
            pieces.append((piece, slice(start, 1 + self.count)))
        return pieces

    def index(self, shape: tuple[int, int, int], top: int = 0) -> RowIndex:
        """Index of maps of `shape` (B, H, W), or of their rows from `top` on."""
        pixels = Pixels(*map(torch.cat, zip(*self._pixels, strict=True)))
        return RowIndex.of(pixels, shape, top)


class Scratch:
    """Memory for maps that are not needed at the same time."""

    def __init__(self, like: Tensor) -> None:
        self._values = like.new_empty(0)

    def reserve(self, count: int, channels: int) -> None:
        """Reserve memory for `count` rows and the row of zeros."""
        if (1 + count) * channels > len(self._values):
            self._values = self._values.new_empty((1 + count) * channels)

    def rows(self, count: int, channels: int) -> Tensor:
        """Rows (1 + count, channels), of which the first is zero. They overwrite the rows of earlier calls."""
        rows = self._values[: (1 + count) * channels].view(-1, channels)
        rows[0] = 0
        return rows


def split(count: int, workers: Workers, size: int = 1) -> Iterator[slice]:
    """Yield slices of `count` items to compute together; `size` items make one block."""
    most = size * costs_on(workers.device).chunk_blocks
    rounds = -(-count // (most * workers.threads))  # so that all threads have work until the end
    step = max(1, -(-count // max(1, rounds * workers.threads)))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
