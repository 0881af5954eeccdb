"""Sparse maps: packed rows of the pixels of some tiles, and an index of the row of each pixel.

A tile is a square of pixels; at the bottom and right it may extend beyond the map. Patches are read through the index
and may cross tiles and borders. Pixels outside the map, or in a tile that does not exist, are read as zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from modeling.decoder.sparse.receptive_field import halve


def mask_tiles(mask: Tensor, side: int) -> Tensor:
    """Tiles with a true pixel: (B, H, W) -> (B, ceil(H / side), ceil(W / side)), for a side that is a power of two."""
    while side > 1:
        mask, side = halve(mask), side // 2
    return mask


@dataclass(frozen=True)
class TileList:
    """Some tiles of a batch of maps: image, row and column of each, int64 (N,), in tiles of `side` pixels.

    `grid` is (B, tile rows, tile columns) of the whole maps.
    """

    side: int
    grid: tuple[int, int, int]
    image: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def where(cls, active: Tensor, side: int) -> "TileList":
        """Tiles that are true in `active`, (B, tile rows, tile columns)."""
        return cls(side, tuple(active.shape), *active.nonzero(as_tuple=True))

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: slice | Tensor) -> "TileList":
        return TileList(self.side, self.grid, self.image[index], self.row[index], self.column[index])

    @property
    def top(self) -> Tensor:
        """First row of pixels of each tile, (N,)."""
        return self.row * self.side

    @property
    def left(self) -> Tensor:
        """First column of pixels of each tile, (N,)."""
        return self.column * self.side


class SparseMap:
    """A map (B, C, H, W) of which some tiles are stored.

    Attributes:
        rows: (1 + stored pixels, C): a row of zeros, from which other pixels are read, then the pixels tile by tile.
        size: (H, W).
    """

    def __init__(self, rows: Tensor, first: Tensor, tile: tuple[int, int], size: tuple[int, int]) -> None:
        """`first` (B, tile rows, tile columns): the row of each tile's first pixel, 0 for tiles that do not exist."""
        self.rows = rows
        self.size = size
        self._first = first
        self._tile = tile

    @classmethod
    def allocate(cls, tiles: TileList, channels: int, size: tuple[int, int], dtype: torch.dtype) -> "SparseMap":
        """A map of `tiles`, in their order, with uninitialised pixels."""
        area = tiles.side**2
        device = tiles.row.device
        first = torch.zeros(tiles.grid, dtype=torch.int64, device=device)
        first[tiles.image, tiles.row, tiles.column] = 1 + area * torch.arange(len(tiles), device=device)
        rows = torch.empty(1 + area * len(tiles), channels, dtype=dtype, device=device)
        rows[0] = 0
        return cls(rows, first, (tiles.side, tiles.side), size)

    @classmethod
    def whole(cls, x: Tensor, dtype: torch.dtype) -> "SparseMap":
        """A map with all of (B, C, H, W): each image is one tile."""
        batch, channels, height, width = x.shape
        rows = torch.empty(1 + batch * height * width, channels, dtype=dtype, device=x.device)
        rows[0] = 0
        rows[1:].view(batch, height, width, channels).copy_(x.permute(0, 2, 3, 1))
        first = 1 + torch.arange(batch, device=x.device).view(-1, 1, 1) * (height * width)
        return cls(rows, first, (height, width), (height, width))

    @classmethod
    def pixels(cls, x: Tensor, mask: Tensor, dtype: torch.dtype) -> "SparseMap":
        """A map with the pixels of (B, C, H, W) that are true in `mask` (B, H, W)."""
        kept = cls.allocate(TileList.where(mask, 1), x.shape[1], tuple(x.shape[-2:]), dtype)
        kept.rows[1:] = x.permute(0, 2, 3, 1)[mask].to(dtype)
        return kept

    @property
    def channels(self) -> int:
        return self.rows.shape[1]

    def tiles(self, start: int, stop: int) -> Tensor:
        """Writable view of tiles `start` to `stop` - 1, (n, side, side, C)."""
        return self.rows[1:].view(-1, *self._tile, self.channels)[start:stop]

    def patches(self, image: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
        """Squares of side x side pixels, (n, side, side, C), from rows `top` and columns `left` (n,), any integers."""
        y, y_inside = _span(top, side, self.size[0])  # (n, side)
        x, x_inside = _span(left, side, self.size[1])
        tile_h, tile_w = self._tile
        first = self._first[image[:, None, None], (y // tile_h)[:, :, None], (x // tile_w)[:, None, :]]
        offset = ((y % tile_h) * tile_w)[:, :, None] + (x % tile_w)[:, None, :]
        kept = (first > 0) & y_inside[:, :, None] & x_inside[:, None, :]
        index = (first + offset) * kept  # (n, side, side)
        return self.rows.index_select(0, index.flatten()).view(*index.shape, self.channels)


def _span(start: Tensor, length: int, limit: int) -> tuple[Tensor, Tensor]:
    """`length` coordinates from each `start` (n,), clamped to [0, limit), and a mask of those inside: (n, length)."""
    span = start[:, None] + torch.arange(length, device=start.device)
    return span.clamp(0, limit - 1), (span >= 0) & (span < limit)
