"""Blocks of pixels for a solver: whole images, or only the tiles with unknown pixels.

Images are (B, C, H, W), blocks are (N, C, side or height, side or width). Blocks may extend beyond the right and bottom
edges of the image. Methods also take images or blocks of half, a quarter, ... of the size; the blocks are then smaller.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.classical.pooling import image_dot

CHUNK = 2**15  # pixels of the tiles that are processed together when there are many intermediate results
LARGE = 2**20  # pixels; larger images exchange the margins of one channel after another to save memory


class WholeImages:
    """Each image of a batch as one block. Nothing depends on the trimap, so a GPU does not have to wait for it.

    Args:
        unknown: (B, 1, H, W) bool.
        multiple: divisor of the height and width of a block.
    """

    def __init__(self, unknown: Tensor, multiple: int) -> None:
        self.count = len(unknown)
        self.height, self.width = (size + -size % multiple for size in unknown.shape[-2:])

    def gather(self, x: Tensor, margin: int = 0, shrunk: int = 1, mode: str = "constant") -> Tensor:
        """Image in blocks with `margin` pixels around them; zeros beyond the image, or as in the `mode` of F.pad."""
        right = self.width // shrunk - x.shape[-1] + margin
        bottom = self.height // shrunk - x.shape[-2] + margin
        return F.pad(x, (margin, right, margin, bottom), mode=mode)

    def scatter(self, blocks: Tensor, x: Tensor) -> None:
        """Write blocks to their pixels of the image."""
        x.copy_(blocks[..., : x.shape[-2], : x.shape[-1]])

    def with_margin(self, blocks: Tensor, margin: int) -> Tensor:
        """Blocks with `margin` pixels around them, from their neighbours or zero."""
        return F.pad(blocks, (margin,) * 4)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner product for each image, (N, 1, 1, 1), the same for all blocks of an image."""
        return image_dot(x, y)

    def in_chunks(self, compute: Callable[["WholeImages"], Tensor]) -> Tensor:
        """Result of `compute` for the blocks, computed for some of them at a time."""
        return compute(self)


class Tiles:
    """Square tiles with unknown pixels of all images of a batch. The methods are those of `WholeImages`.

    Args:
        unknown: (B, 1, H, W) bool.
        side: side of a tile in pixels.
    """

    def __init__(self, unknown: Tensor, side: int) -> None:
        self.height = self.width = side
        padded = F.pad(unknown[:, 0], (0, -unknown.shape[-1] % side, 0, -unknown.shape[-2] % side))
        self.batch, self.rows, self.columns = len(padded), padded.shape[-2] // side, padded.shape[-1] // side
        grid = padded.unflatten(1, (self.rows, side)).unflatten(3, (self.columns, side)).any(dim=4).any(dim=2)
        self._place(grid.nonzero())

    def _place(self, places: Tensor) -> None:
        """Set image, row and column of each tile, (N, 3) in reading order."""
        self.places, self.index, self.count = places, places.unbind(dim=1), len(places)
        if self.count:
            _, top, left = places.amin(dim=0).tolist()
            _, bottom, right = places.amax(dim=0).tolist()
            self._grid = bottom + 1 - top, right + 1 - left  # rows and columns of tiles on a canvas
            self._index = self.index[0], self.index[1] - top, self.index[2] - left
        self._canvases: dict[tuple, Tensor] = {}  # images for exchanging margins, kept and reused

    def _part(self, places: Tensor) -> "Tiles":
        part = object.__new__(Tiles)
        part.__dict__.update(self.__dict__)
        part._place(places)
        return part

    def in_chunks(self, compute: Callable[["Tiles"], Tensor]) -> Tensor:
        out = None
        step = max(1, CHUNK // self.width**2)
        for start in range(0, self.count, step):
            part = compute(self._part(self.places[start : start + step]))
            if out is None:
                out = part.new_empty(self.count, *part.shape[1:])
            out[start : start + step] = part
        return out

    def gather(self, x: Tensor, margin: int = 0, shrunk: int = 1, mode: str = "constant") -> Tensor:
        step = max(1, CHUNK // self.width**2)
        if self.count > step:
            return self.in_chunks(lambda part: part.gather(x, margin, shrunk, mode))
        # Only the strip of the image with these tiles is padded.
        side = self.width // shrunk
        (image, first, _), (last_image, last, _) = self.places.amin(dim=0).tolist(), self.places.amax(dim=0).tolist()
        top, bottom = first * side - margin, (last + 1) * side + margin
        left, right = -margin, self.columns * side + margin
        height, width = x.shape[-2:]
        strip = x[image : last_image + 1, :, max(top, 0) : min(bottom, height)]
        strip = F.pad(strip, (-left, right - width, max(-top, 0), max(bottom - height, 0)), mode=mode)
        images, rows, columns = self.index
        return self._windows(strip, side, margin)[images - image, rows - first, columns]

    def scatter(self, blocks: Tensor, x: Tensor) -> None:
        padded = F.pad(x, (0, -x.shape[-1] % self.width, 0, -x.shape[-2] % self.height))
        self._interior(padded, self.width, 0)[self.index] = blocks
        x.copy_(padded[..., : x.shape[-2], : x.shape[-1]])

    def with_margin(self, blocks: Tensor, margin: int) -> Tensor:
        channels, side = blocks.shape[1], blocks.shape[-1]
        rows, columns = (tiles * side for tiles in self._grid)
        if channels > 1 and rows * columns > LARGE // 4:
            return torch.cat([self.with_margin(channel, margin) for channel in blocks.split(1, dim=1)], dim=1)
        key = (*blocks.shape[1:], margin)
        if key not in self._canvases:
            shape = (self.batch, channels, rows + 2 * margin, columns + 2 * margin)
            self._canvases[key] = blocks.new_zeros(shape)
        canvas = self._canvases[key]
        self._interior(canvas, side, margin)[self._index] = blocks
        return self._windows(canvas, side, margin)[self._index]

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        sums = image_dot(x, y).flatten()
        images = sums.new_zeros(self.batch).index_add_(0, self.index[0], sums)
        return images[self.index[0]].view(-1, 1, 1, 1)

    @staticmethod
    def _windows(padded: Tensor, side: int, margin: int) -> Tensor:
        """(B, C, H', W') -> a view (B, rows, columns, C, side + 2 margin, side + 2 margin)."""
        views = padded.unfold(-2, side + 2 * margin, side).unfold(-2, side + 2 * margin, side)
        return views.movedim((2, 3), (1, 2))

    @staticmethod
    def _interior(canvas: Tensor, side: int, margin: int) -> Tensor:
        """(B, C, H', W') -> a view (B, rows, columns, C, side, side) without the margin."""
        height, width = canvas.shape[-2:]
        inner = canvas[..., margin : height - margin, margin : width - margin]
        return inner.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).movedim((2, 4), (1, 2))


Blocks = WholeImages | Tiles
