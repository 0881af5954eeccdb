"""Blocks of pixels that a solver works on: whole images, or only the tiles that hold unknown pixels.

Images are (B, C, H, W), blocks (N, C, side or height, side or width). Blocks may reach beyond the image's right and
bottom edges. Where a method takes an image or blocks of half, a quarter, ... of the size, the blocks shrink with it.
"""

import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**16  # pixels whose many intermediate results are held at once on a CPU
EVERYTHING = slice(None)


class WholeImages:
    """Each image of a batch is one block: nothing depends on the trimap, so that a GPU need not wait for it.

    Args:
        unknown: (B, 1, H, W) bool.
        multiple: number that divides the height and width of a block.
    """

    def __init__(self, unknown: Tensor, multiple: int) -> None:
        self.height, self.width = (size + -size % multiple for size in unknown.shape[-2:])

    def gather(
        self, x: Tensor, margin: int = 0, shrunk: int = 1, mode: str = "constant", chunk: slice = EVERYTHING
    ) -> Tensor:
        """The blocks of a chunk with `margin` pixels around them; beyond the image zeros, or as F.pad's `mode` says."""
        right = self.width // shrunk - x.shape[-1] + margin
        bottom = self.height // shrunk - x.shape[-2] + margin
        return F.pad(x, (margin, right, margin, bottom), mode=mode)

    def scatter(self, blocks: Tensor, x: Tensor) -> None:
        """Write blocks over the pixels of the image that belong to one."""
        x.copy_(blocks[..., : x.shape[-2], : x.shape[-1]])

    def with_margin(self, blocks: Tensor, margin: int) -> Tensor:
        """Blocks with `margin` pixels of their neighbours around them, or zeros."""
        return F.pad(blocks, (margin,) * 4)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product of each image, (N, 1, 1, 1): the same for all blocks of an image."""
        return (x * y).sum(dim=(1, 2, 3), keepdim=True)

    def chunks(self) -> list[slice]:
        """Blocks to handle at once."""
        return [EVERYTHING]


class Tiles:
    """Square tiles that hold unknown pixels, of all images of a batch.

    Args:
        unknown: (B, 1, H, W) bool.
        side: of a tile, pixels.
    """

    def __init__(self, unknown: Tensor, side: int) -> None:
        self.height = self.width = side
        padded = F.pad(unknown[:, 0], (0, -unknown.shape[-1] % side, 0, -unknown.shape[-2] % side))
        self.batch, self.rows, self.columns = len(padded), padded.shape[-2] // side, padded.shape[-1] // side
        grid = padded.unflatten(1, (self.rows, side)).unflatten(3, (self.columns, side)).any(dim=4).any(dim=2)
        self.index = grid.nonzero(as_tuple=True)  # image, row, column of each tile
        self._canvases: dict[tuple, Tensor] = {}  # whole images for exchanging margins, kept for the next exchange

    def gather(
        self, x: Tensor, margin: int = 0, shrunk: int = 1, mode: str = "constant", chunk: slice = EVERYTHING
    ) -> Tensor:
        side = self.width // shrunk
        right = self.columns * side - x.shape[-1] + margin
        bottom = self.rows * side - x.shape[-2] + margin
        index = tuple(axis[chunk] for axis in self.index)
        return self._windows(F.pad(x, (margin, right, margin, bottom), mode=mode), margin)[index]

    def scatter(self, blocks: Tensor, x: Tensor) -> None:
        padded = F.pad(x, (0, -x.shape[-1] % self.width, 0, -x.shape[-2] % self.height))
        self._interior(padded, 0)[self.index] = blocks
        x.copy_(padded[..., : x.shape[-2], : x.shape[-1]])

    def with_margin(self, blocks: Tensor, margin: int) -> Tensor:
        key = (*blocks.shape[1:], margin)
        if key not in self._canvases:
            rows, columns = self.rows * blocks.shape[-2], self.columns * blocks.shape[-1]
            shape = (self.batch, blocks.shape[1], rows + 2 * margin, columns + 2 * margin)
            self._canvases[key] = blocks.new_zeros(shape)
        canvas = self._canvases[key]
        self._interior(canvas, margin)[self.index] = blocks
        return self._windows(canvas, margin)[self.index]

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        sums = (x * y).sum(dim=(1, 2, 3))
        images = sums.new_zeros(self.batch).index_add_(0, self.index[0], sums)
        return images[self.index[0]].view(-1, 1, 1, 1)

    def chunks(self) -> list[slice]:
        count, step = len(self.index[0]), max(1, CHUNK // self.width**2)
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]

    def _windows(self, padded: Tensor, margin: int) -> Tensor:
        """(B, C, H', W') -> a view (B, rows, columns, C, side + 2 margin, side + 2 margin)."""
        side = (padded.shape[-1] - 2 * margin) // self.columns
        views = padded.unfold(-2, side + 2 * margin, side).unfold(-2, side + 2 * margin, side)
        return views.movedim((2, 3), (1, 2))

    def _interior(self, canvas: Tensor, margin: int) -> Tensor:
        """(B, C, H', W') -> a view (B, rows, columns, C, side, side) without the margin."""
        height, width = canvas.shape[-2:]
        inner = canvas[..., margin : height - margin, margin : width - margin]
        views = inner.unflatten(-1, (self.columns, -1)).unflatten(-3, (self.rows, -1))
        return views.movedim((2, 4), (1, 2))


Blocks = WholeImages | Tiles
