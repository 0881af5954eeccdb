"""Foreground colours of a matte: the colours along the edge of the subject without those of the old background.

The method is blur fusion, after Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021. It computes local
means of the colours on both sides of the edge, and then corrects foreground and background so that they and alpha
reproduce the picture. Four details differ from the paper: there are seven windows of decreasing size instead of two,
the wide ones are computed at a quarter of the size, the means weight clear pixels more (alpha squared), and the
background is corrected too. At full size only the tiles with soft alpha are computed, with the margin that their pixels
depend on, so there are no seams. docs/inference.md compares the remaining fringe and the time with PyMatting's
multi-level method (tools/benchmark_cutout.py).
"""

import cv2
import numpy as np

from runtime.errors import InputError

REDUCTION = 4  # factor by which the picture is reduced for the wide windows
WIDE_RADII = (16, 8, 4)  # pixels of the reduced picture, one radius for each pass
RADII = (8, 4, 2, 1)  # pixels of the picture
MARGIN = 16  # pixels around a tile: at least the sum of RADII, and a multiple of REDUCTION
TILE = 256  # pixels, a multiple of REDUCTION
LEAST_WEIGHT = 1e-5


def estimate_foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Estimate the colours of the foreground, which a cut-out needs where alpha is soft.

    Args:
        image: (H, W, 3) uint8, or float32 levels in which white is 1. Highlights may be above 1.
        alpha: (H, W) uint8, or float32 in [0, 1].

    Returns:
        (H, W, 3) uint8: the colours of the picture where alpha is full, and their continuation where it is 0. With a
            float image or alpha, float32, which keeps the precision of the estimate. Estimates are from 0 to 1, or to
            the brightest value of the image; colours of full alpha may be outside.

    Raises:
        InputError: the sizes differ.

    Example:
        >>> image = np.full((8, 8, 3), 100, np.uint8)
        >>> estimate_foreground(image, np.full((8, 8), 255, np.uint8))[0, 0].tolist()
        [100, 100, 100]
    """
    if image.shape[:2] != alpha.shape:
        raise InputError(f"foreground colours: image {image.shape[:2]} and alpha {alpha.shape} differ in size")
    is_float = "f" in (image.dtype.kind, alpha.dtype.kind)
    result = np.array(_fraction(image) if is_float else image)
    full = 1 if alpha.dtype.kind == "f" else 255
    if alpha.size == 0 or alpha.min() == full:
        return result
    limits = (0, max(1, float(image.max()))) if image.dtype.kind == "f" else (0, 1)
    height, width = alpha.shape
    image, alpha = (_to_multiple(array) for array in (image, alpha))
    wide = _wide(image, alpha, limits)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            if (alpha[tile] == full).all():
                continue
            colours = _of_tile(image, alpha, wide, top, left, limits)[: tile[0].stop - top, : tile[1].stop - left]
            if not is_float:
                colours = np.rint(colours * 255).astype(np.uint8)
            np.copyto(result[tile], colours, where=(alpha[tile] != full)[..., None])
    return result


def composite_over(
    image: np.ndarray, alpha: np.ndarray, background: np.ndarray, foreground: np.ndarray | None = None
) -> np.ndarray:
    """Composite the subject over another background.

    Args:
        image: (H, W, 3) uint8 or float32, see `estimate_foreground`.
        alpha: (H, W) uint8, or float32 in [0, 1].
        background: levels from 0 to 255 that broadcast to (H, W, 3), such as (3,) for one colour.
        foreground: result of `estimate_foreground`; None to call it.

    Returns:
        (H, W, 3) uint8; with a float image or alpha, float32.

    Example:
        >>> image = np.full((1, 2, 3), 200, np.uint8)
        >>> composite_over(image, np.array([[0, 255]], np.uint8), np.array([10, 20, 30])).tolist()
        [[[10, 20, 30], [200, 200, 200]]]
    """
    colours = estimate_foreground(image, alpha) if foreground is None else foreground
    weight = _fraction(alpha)[..., None]
    if colours.dtype.kind == "f":
        return colours * weight + background * (1 / np.float32(255)) * (1 - weight)
    return np.rint(colours * weight + background * (1 - weight)).astype(np.uint8)


def _to_multiple(array: np.ndarray) -> np.ndarray:
    """The array with its last row and column repeated until REDUCTION divides height and width."""
    bottom, right = (-side % REDUCTION for side in array.shape[:2])
    if not bottom and not right:
        return array
    return cv2.copyMakeBorder(array, 0, bottom, 0, right, cv2.BORDER_REPLICATE)


def _wide(image: np.ndarray, alpha: np.ndarray, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background by the wide windows, (H / 4, W / 4, 3) float32 each."""
    size = (image.shape[1] // REDUCTION, image.shape[0] // REDUCTION)
    pixels = _planes(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    weight = _fraction(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA))
    foreground = background = pixels
    for radius in WIDE_RADII:
        foreground, background = _fused(pixels, foreground, background, weight, radius, limits)
    return foreground.transpose(1, 2, 0).copy(), background.transpose(1, 2, 0).copy()


def _of_tile(
    image: np.ndarray,
    alpha: np.ndarray,
    wide: tuple[np.ndarray, np.ndarray],
    top: int,
    left: int,
    limits: tuple[float, float],
) -> np.ndarray:
    """Foreground of the tile that begins at `top` and `left`, up to (TILE, TILE, 3) float32 within `limits`."""
    sides = alpha.shape
    begins = [max(0, begin - MARGIN) for begin in (top, left)]
    ends = [min(side, begin + TILE + MARGIN) for begin, side in zip((top, left), sides, strict=True)]
    window = tuple(slice(begin, end) for begin, end in zip(begins, ends, strict=True))
    weight = _fraction(alpha[window])
    foreground, background = (_enlarged(colours, begins, ends) for colours in wide)
    if ((weight > 0) & (weight < 1)).any():
        pixels = _planes(image[window])
        for radius in RADII:
            foreground, background = _fused(pixels, foreground, background, weight, radius, limits)
    rows, columns = (slice(at - begin, at - begin + TILE) for at, begin in zip((top, left), begins, strict=True))
    return foreground[:, rows, columns].transpose(1, 2, 0)


def _enlarged(colours: np.ndarray, begins: list[int], ends: list[int]) -> np.ndarray:
    """A window of the reduced colours at full size, (3, H, W) float32, as if all of them were enlarged."""
    # one more pixel on each side, which linear interpolation reads
    first = [max(0, begin // REDUCTION - 1) for begin in begins]
    last = [min(side, end // REDUCTION + 1) for side, end in zip(colours.shape, ends, strict=False)]
    part = colours[first[0] : last[0], first[1] : last[1]]
    size = (part.shape[1] * REDUCTION, part.shape[0] * REDUCTION)
    enlarged = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
    rows, columns = (
        slice(begin - start * REDUCTION, end - start * REDUCTION)
        for begin, end, start in zip(begins, ends, first, strict=True)
    )
    return np.ascontiguousarray(enlarged[rows, columns].transpose(2, 0, 1))


def _planes(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) as (3, H, W) float32 in [0, 1]: planes, because numpy is slow on a last axis of length 3."""
    return _fraction(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _fraction(levels: np.ndarray) -> np.ndarray:
    """Levels as float32, in which full is 1."""
    return levels if levels.dtype.kind == "f" else levels.astype(np.float32) / np.float32(255)


def _fused(
    image: np.ndarray,
    foreground: np.ndarray,
    background: np.ndarray,
    alpha: np.ndarray,
    radius: int,
    limits: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """One pass: (3, H, W) float32 foreground and background within `limits`; alpha is (H, W)."""
    clear = 1 - alpha
    foreground = _mean_where(foreground, alpha * alpha, radius)
    background = _mean_where(background, clear * clear, radius)
    rest = image - alpha * foreground - clear * background
    foreground += alpha * rest
    background += clear * rest
    return foreground.clip(*limits, out=foreground), background.clip(*limits, out=background)


def _mean_where(colours: np.ndarray, weight: np.ndarray, radius: int) -> np.ndarray:
    """Local means of colours (3, H, W) by their weight (H, W), over squares of 2 radius + 1 pixels."""
    size = (2 * radius + 1, 2 * radius + 1)
    scale = 1 / (cv2.blur(weight, size, borderType=cv2.BORDER_REFLECT_101) + np.float32(LEAST_WEIGHT))
    means = np.empty_like(colours)
    for plane, mean in zip(colours, means, strict=True):
        cv2.blur(plane * weight, size, dst=mean, borderType=cv2.BORDER_REFLECT_101)
        mean *= scale
    return means
