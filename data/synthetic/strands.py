"""Hair, fur and threads: hundreds of tapered curves, drawn together with sub-pixel coverage.

A strand thinner than a pixel has no inside to fill, so it is drawn by area: short pieces of its centre line have an
area of length times width, distributed bilinearly over the four nearest pixels. The sum is the strand's area for every
width, position and direction; the bilinear distribution acts like a lens. A strand wider than a pixel is drawn as
several thin tracks side by side.
"""

from dataclasses import dataclass

import cv2
import numpy as np

TRACK_WIDTH = 0.7  # pixels; tracks closer than a pixel leave no gaps
PIECE_LENGTH = 1.0  # pixels; the bilinear distributions of pieces a pixel apart leave no gaps
MARGIN = 4  # pixels around the picture in which pieces are drawn


@dataclass(frozen=True)
class Strands:
    """N curves of M points each, float32.

    `x`, `y`: (N, M) pixels. `widths`: (N,) pixels at the root. `taper`: (M,) share of that width along a strand.
    `colours`: (N, 3) in [0, 1]. `light`: (M,) factor on the colour along a strand.
    """

    x: np.ndarray
    y: np.ndarray
    widths: np.ndarray
    taper: np.ndarray
    colours: np.ndarray
    light: np.ndarray


def grown(
    rng: np.random.Generator,
    roots: np.ndarray,
    directions: np.ndarray,
    lengths: np.ndarray,
    curl: float,
    droop: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Grow curves from (N, 2) `roots`, starting along (N,) `directions` (radians, y downwards).

    Args:
        lengths: (N,) pixels.
        curl: standard deviation of a strand's random turn along its length in radians, including waves.
        droop: pull of gravity, from 0 for stiff fur to 1 for hair that hangs down at its end.

    Returns:
        x and y, (N, M) float32, points at most about `PIECE_LENGTH` pixels apart.
    """
    count, points = len(roots), max(4, int(np.ceil(lengths.max() / PIECE_LENGTH)) + 1)
    t = np.linspace(0, 1, points, dtype=np.float32)
    bend, wave, cycles, phase = rng.standard_normal((4, count, 1), np.float32)
    swing = np.sin(2 * np.pi * (0.5 + np.abs(cycles)) * t + 9 * phase)
    heading = directions[:, None].astype(np.float32) + (0.6 * curl) * bend * t + (0.5 * curl) * wave * swing * t
    step_x, step_y = np.cos(heading), np.sin(heading)
    step_y += np.float32(1.5 * droop) * t
    scale = (lengths[:, None] / (points - 1)).astype(np.float32)
    if droop > 0:
        scale = scale / np.maximum(np.sqrt(step_x * step_x + step_y * step_y), 0.3)
    return _summed(roots[:, 0], step_x * scale), _summed(roots[:, 1], step_y * scale)


def split(rng: np.random.Generator, curve: np.ndarray, copies: int, spread: float, gather: float) -> np.ndarray:
    """Replace each row of (N, M) x or y coordinates by `copies` rows, `spread` pixels apart at the root.

    With `gather` 1 they meet at the tip, with 0 they are parallel, and below 0 they fan out.
    """
    count, points = curve.shape
    t = np.linspace(0, 1, points, dtype=np.float32)
    offset, stray = np.float32(spread) * rng.standard_normal((2, count, copies, 1), np.float32)
    apart = offset * (1 - np.float32(gather) * t) + stray * (np.float32(0.35) * t * t)
    return (curve[:, None] + apart).reshape(count * copies, points)


def taper(points: int, tip: float = 0.15) -> np.ndarray:
    """Share of the width along a strand, (points,): full for the first half, then narrowing to `tip`."""
    t = np.linspace(0, 1, points, dtype=np.float32)
    return 1 - (1 - tip) * np.clip(2 * t - 1, 0, 1) ** 1.5


def drawn(strands: Strands, height: int, width: int) -> np.ndarray:
    """Draw strands into an (height, width, 4) layer.

    Where strands overlap, their coverages are added up to at most 1, as for fibres side by side, and their colours are
    averaged by coverage.
    """
    x, y, area, colours = _pieces(strands, height, width)
    coverage = np.minimum(_shared_by_four(x, y, area, height, width), 1)
    weighted = [area, *(colours[:, channel] * area for channel in range(3))]
    total, *sums = (cv2.blur(_of_nearest(x, y, values, height, width), (3, 3)) for values in weighted)
    share = coverage / np.maximum(total, 1e-6)
    return _inside(cv2.merge([*(plane * share for plane in sums), coverage]))


def _summed(start: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Positions from (N,) starts and (N, M) steps; the first position is the start."""
    positions = np.cumsum(steps, axis=1)
    return positions + (start[:, None] - steps[:, :1]).astype(np.float32)


def _pieces(strands: Strands, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut strands into pieces near the window: grid positions x, y (P,), areas (P,) and colours (P, 3)."""
    x, y = strands.x, strands.y
    near = (x > -2) & (x < width + 2) & (y > -2) & (y < height + 2)
    strand, point = np.nonzero(near[:, :-1])
    at = strand * x.shape[1] + point
    x, y = x.ravel(), y.ravel()
    start_x, start_y = x[at], y[at]
    step_x, step_y = x[at + 1] - start_x, y[at + 1] - start_y
    centre_x, centre_y = start_x + step_x / 2, start_y + step_y / 2
    piece_width = strands.widths.astype(np.float32)[strand] * strands.taper[point]
    area = np.sqrt(step_x * step_x + step_y * step_y) * piece_width
    colours = strands.colours[strand] * strands.light[point, None]
    tracks = max(1, int(np.ceil(piece_width.max(initial=0) / TRACK_WIDTH)))
    if tracks > 1:
        length = np.maximum(np.sqrt(step_x * step_x + step_y * step_y), 1e-9)
        across = ((np.arange(tracks, dtype=np.float32) + 0.5) / tracks - 0.5)[:, None] * piece_width
        centre_x = (centre_x - across * step_y / length).ravel()
        centre_y = (centre_y + across * step_x / length).ravel()
        area, colours = np.tile(area / tracks, tracks), np.tile(colours, (tracks, 1))
    return _on_grid(centre_x, width), _on_grid(centre_y, height), area, colours


def _on_grid(position: np.ndarray, size: int) -> np.ndarray:
    """Position in pixels -> index into a padded row or column, where pixel centres are integers."""
    return np.clip(position + np.float32(MARGIN - 0.5), 0, size + 2 * MARGIN - 1.01)


def _shared_by_four(x: np.ndarray, y: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum of (P,) values at points x, y, distributed bilinearly over four pixels: float32, with a `MARGIN`."""
    columns = width + 2 * MARGIN
    left, top = x.astype(np.int32), y.astype(np.int32)
    right_share, bottom_share = x - left, y - top
    both = right_share * bottom_share
    shares = (1 - right_share - bottom_share + both, right_share - both, bottom_share - both, both)
    index = np.concatenate([top * columns + left + step for step in (0, 1, columns, columns + 1)])
    return _summed_at(index, np.concatenate([share * values for share in shares]), height, width)


def _of_nearest(x: np.ndarray, y: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Like `_shared_by_four`, with each value added to the nearest pixel: sufficient for colour, four times as fast."""
    index = (y + 0.5).astype(np.int32) * (width + 2 * MARGIN) + (x + 0.5).astype(np.int32)
    return _summed_at(index, values, height, width)


def _summed_at(index: np.ndarray, values: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = height + 2 * MARGIN, width + 2 * MARGIN
    return np.bincount(index, values, rows * columns).reshape(rows, columns).astype(np.float32)


def _inside(padded: np.ndarray) -> np.ndarray:
    return padded[MARGIN:-MARGIN, MARGIN:-MARGIN]
