"""Position of the training crop: centred on an unknown pixel, on a canvas that is large enough."""

import numpy as np

from data.images.trimap import UNKNOWN
from data.transforms.geometry import Size, nearest_indices

CANDIDATE_STEP = 4  # crop centres are searched on every 4th row and column
MIN_CANDIDATES = 10  # with fewer candidates the crop is placed anywhere


def enlarged_size(size: Size, crop_size: int) -> Size:
    """`size`, or the size for enlargement if a side is shorter than `crop_size` + 1: shorter side 1.1 crops.

    Both sides are multiplied by the same factor and rounded down to whole pixels, as in the recipe.
    """
    if min(size) > crop_size:
        return size
    ratio = 1.1 * crop_size / min(size)
    height, width = (max(crop_size + 1, int(side * ratio)) for side in size)
    return height, width


def unknown_corners(trimap: np.ndarray, canvas: Size, crop_size: int) -> np.ndarray:
    """Top-left corners (N, 2), (row, column), of the crops inside `canvas` whose centre pixel is unknown.

    Args:
        trimap: (h, w) uint8 0 / 128 / 255 of any size, stretched over the canvas and read by nearest pixel.
    """
    margin = crop_size // 2
    rows, columns = (
        nearest_indices(margin, length - margin, length, cells, CANDIDATE_STEP)
        for length, cells in zip(canvas, trimap.shape, strict=True)
    )
    # The margin cancels: candidate k is centred at margin + k * step, so its corner is k * step.
    return np.argwhere(trimap[rows[:, None], columns] == UNKNOWN) * CANDIDATE_STEP


def centre_range(canvas: Size, crop_size: int, cells: Size) -> tuple[slice, slice]:
    """Rows and columns of a (h, w) grid over `canvas` that `choose_corner` reads."""
    return cell_range(
        (crop_size // 2, crop_size // 2), [length - crop_size // 2 * 2 for length in canvas], canvas, cells
    )


def cell_range(corner: tuple[int, int], size: Size, canvas: Size, cells: Size) -> tuple[slice, slice]:
    """Rows and columns of a (h, w) grid over `canvas` with the nearest cells to the pixels of a window."""
    return tuple(
        slice(*(nearest_indices(start, start + length, out, count)[[0, -1]] + (0, 1)).tolist())
        for start, length, out, count in zip(corner, size, canvas, cells, strict=True)
    )


def choose_corner(trimap: np.ndarray, canvas: Size, crop_size: int, draw: tuple[float, float]) -> tuple[int, int]:
    """Choose the (top, left) corner of the crop by two numbers `draw` in [0, 1), centred on an unknown pixel.

    With fewer than `MIN_CANDIDATES` unknown places, it is any corner, uniformly.
    """
    corners = unknown_corners(trimap, canvas, crop_size)
    if len(corners) >= MIN_CANDIDATES:
        top, left = corners[int(draw[0] * len(corners))]
        return int(top), int(left)
    top, left = (int(u * (length - crop_size + 1)) for u, length in zip(draw, canvas, strict=True))
    return top, left


def choose_fractional_corner(alpha: np.ndarray, crop_size: int, draw: float) -> tuple[int, int]:
    """Choose the (top, left) corner of the crop by a number `draw` in [0, 1), centred on a fractional pixel.

    Fractional pixels are neither 0 nor 1. Those whose crop is inside the canvas are preferred. Otherwise the crop is
    moved inside and still contains the pixel. Without such pixels it is the crop in the top-left corner.

    Args:
        alpha: (H, W) in [0, 1], each side at least `crop_size`.
    """
    centres = np.argwhere((alpha > 0) & (alpha < 1))
    if not len(centres):
        return 0, 0
    corners = centres - crop_size // 2
    largest = np.array(alpha.shape) - crop_size
    fitting = ((corners >= 0) & (corners <= largest)).all(axis=1)
    if fitting.any():
        corners = corners[fitting]
    top, left = np.clip(corners[int(draw * len(corners))], 0, largest)
    return int(top), int(left)


def crop_trimap(trimap: np.ndarray, canvas: Size, corner: tuple[int, int], crop_size: int) -> np.ndarray:
    """Read the (crop_size, crop_size) window at `corner` of a trimap that covers `canvas`, by nearest pixel."""
    rows, columns = (
        nearest_indices(start, start + crop_size, length, cells)
        for start, length, cells in zip(corner, canvas, trimap.shape, strict=True)
    )
    return trimap.take(rows, axis=0).take(columns, axis=1)
