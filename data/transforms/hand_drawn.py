"""Trimaps like those drawn by hand: of any width, uneven, with filled holes and dabs of the brush.

They are computed from the distance of every pixel to the unknown region, so a wide band costs no more than a narrow
one.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN

TOLERANCE = 1e-5  # tolerance of alpha, as in trimap_from_alpha
FIELD_CELLS = 5  # cells of the coarse grid over which unevenness varies
LEAST_KNOWN = 0.01  # share of the crop; if a band leaves less of a region, its width is halved
HALVINGS = 4
HALF_WIDTHS = (0.5, 40.0)  # pixels by which the known regions are eroded


@dataclass(frozen=True)
class HandDrawn:
    """One draw.

    Args:
        foreground_width, background_width: pixels removed from the known foreground and background.
        unevenness: 0 for a band of constant width, up to 1 for a width between zero and twice the mean.
        filling: half width in pixels below which known islands and tongues become unknown; 0 for none.
        dabs: number of strokes with a round brush of unknown along the band.
        unknown_inside: whether no foreground is known.
        seed: seed of the unevenness and of the positions of the dabs.
    """

    foreground_width: float = 0.5
    background_width: float = 0.5
    unevenness: float = 0.0
    filling: float = 0.0
    dabs: int = 0
    unknown_inside: bool = False
    seed: int = 0


def draw_hand_drawn(
    rng: np.random.Generator, narrowest: float = HALF_WIDTHS[0], widest: float = HALF_WIDTHS[1]
) -> HandDrawn:
    """Draw the style of a trimap. Half widths are log-uniform, so narrow bands are common."""
    width, balance, uneven, is_uneven, fills, filling, dabs, has_dabs, inside = rng.random(9)
    middle = narrowest * (widest / narrowest) ** width
    tilt = np.exp(0.7 * (2 * balance - 1))
    return HandDrawn(
        foreground_width=float(middle * tilt),
        background_width=float(middle / tilt),
        unevenness=float(uneven) if is_uneven < 0.6 else 0.0,
        filling=float(1 + min(12.0, middle) * filling) if fills < 0.5 else 0.0,
        dabs=int(1 + 6 * dabs) if has_dabs < 0.3 else 0,
        unknown_inside=bool(inside < 0.03),
        seed=int(rng.integers(2**32)),
    )


def hand_drawn_trimap(alpha: np.ndarray, drawn: HandDrawn) -> np.ndarray:
    """(H, W) uint8 trimap of 0, 128 and 255 for (H, W) float alpha. Known regions agree with alpha.

    If a width would leave less than one per cent of the crop known of a region that has more, it is halved.
    """
    rng = np.random.default_rng(drawn.seed)
    field = _uneven(rng, alpha.shape, drawn.unevenness)
    foreground = _eroded(alpha >= 1 - TOLERANCE, drawn.foreground_width, field)
    background = _eroded(alpha <= TOLERANCE, drawn.background_width, field)
    if drawn.filling:
        foreground, background = (_opened(known, drawn.filling) for known in (foreground, background))
    trimap = UNKNOWN + foreground * np.uint8(FOREGROUND - UNKNOWN) - background * np.uint8(UNKNOWN - BACKGROUND)
    if drawn.dabs:
        _dab(rng, trimap, drawn.dabs, max(drawn.foreground_width, drawn.background_width))
    if drawn.unknown_inside:
        trimap[trimap == FOREGROUND] = UNKNOWN
    return trimap


def _eroded(region: np.ndarray, width: float, field: np.ndarray | float) -> np.ndarray:
    """(H, W) uint8 of 0 and 1: pixels of `region` whose distance to its outside exceeds `width * field`."""
    region = region.view(np.uint8)
    least = LEAST_KNOWN * region.size
    if cv2.countNonZero(region) < least:
        return region
    for _ in range(HALVINGS):
        known = _beyond(region, width, field)
        if cv2.countNonZero(known) >= least:
            return known
        width /= 2
    return region


def _beyond(region: np.ndarray, width: float, field: np.ndarray | float) -> np.ndarray:
    if region.all():
        return region
    return (cv2.distanceTransform(region, cv2.DIST_L2, 3) > width * field).view(np.uint8)


def _opened(known: np.ndarray, radius: float) -> np.ndarray:
    """Morphological opening by a disc, or the region itself if nothing would remain of it."""
    core = _beyond(known, radius, 1.0)
    if not core.any():
        return known
    return ((cv2.distanceTransform(1 - core, cv2.DIST_L2, 3) <= radius) & (known > 0)).view(np.uint8)


def _uneven(rng: np.random.Generator, size: tuple[int, int], unevenness: float) -> np.ndarray | float:
    if unevenness == 0:
        return 1.0
    coarse = rng.uniform(1 - unevenness, 1 + unevenness, (FIELD_CELLS, FIELD_CELLS)).astype(np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def _dab(rng: np.random.Generator, trimap: np.ndarray, count: int, width: float) -> None:
    """Paint `count` discs of unknown around unknown pixels, in place."""
    rows, columns = np.nonzero(trimap[::4, ::4] == UNKNOWN)
    for place, radius in zip(rng.random(count), rng.uniform(2, width + 6, count), strict=True):
        if len(rows):
            at = int(place * len(rows))
            cv2.circle(trimap, (int(4 * columns[at]), int(4 * rows[at])), round(radius), UNKNOWN, -1)
