"""Trimaps from masks and from probabilities: a band of unknown pixels along the edge of each object.

The band is as wide as the mask is uncertain and the object is large. Distances are Euclidean, between pixel centres, so
a band of r pixels is what erosion and dilation by a disc of radius r leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from runtime.errors import InputError

# The band's radius beside half a cell, in shares of an object's size, the root of its area. Hair spreads outwards more
# than inwards. Half of these left more error on procedural images (tools/benchmark_trimap.py).
INNER_SHARE, OUTER_SHARE = 0.02, 0.03
SMALLEST_RADIUS, LARGEST_RADIUS = 1, 75  # pixels, of a band that is sized to the mask
SURE_FOREGROUND, SURE_BACKGROUND = 0.95, 0.05  # probabilities
LARGEST_CELL = 64  # pixels
LEAST_CELLS, LEAST_EDGES = 8, 8  # across the largest object, and rows and columns with an edge, of an enlarged mask


@dataclass(frozen=True)
class Cleaning:
    """Specks that are removed from a mask before its band is drawn, in shares of the picture's area.

    Args:
        smallest_island: objects below this are removed.
        smallest_of_largest: objects below this share of the largest object are removed.
        smallest_hole: holes below this are filled.
        largest_only: how many objects are kept, the largest; None for all.

    Raises:
        InputError: a share outside [0, 1], or no object is to be kept.
    """

    smallest_island: float = 0.0
    smallest_of_largest: float = 0.0
    smallest_hole: float = 0.0
    largest_only: int | None = None

    def __post_init__(self):
        for name in ("smallest_island", "smallest_of_largest", "smallest_hole"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise InputError(f"{name}: expected a share from 0 to 1, got {share}")
        if self.largest_only is not None and self.largest_only < 1:
            raise InputError(f"largest: expected 1 object or more, got {self.largest_only}")


KEEP_ALL = Cleaning()
SEGMENTATION = Cleaning(smallest_island=0.001, smallest_of_largest=0.1, smallest_hole=0.0005)


def trimap_from_mask(
    mask: np.ndarray, width: float | None = None, cell: float | None = None, cleaning: Cleaning = KEEP_ALL
) -> np.ndarray:
    """Draw an unknown band along the edges of a binary mask.

    Holes, islands and thin parts are kept: what is too thin for the band is unknown throughout. Outside the picture the
    mask continues as at its border, so an object that the frame cuts has no band along the frame.

    Args:
        mask: (H, W), True or nonzero inside objects.
        width: pixels of the band on each side of the edge; None sizes it to each object and to `cell`.
        cell: side in pixels of the squares the mask is made of, for masks that were enlarged from a coarse grid; None
            finds it out by `mask_cell`.
        cleaning: specks to remove first.

    Returns:
        (H, W) uint8 of 0 background, 128 unknown, 255 foreground.

    Raises:
        InputError: `width` or `cell` is negative.

    Example:
        >>> mask = np.zeros((60, 60), bool)
        >>> mask[20:40, 20:40] = True
        >>> np.unique(trimap_from_mask(mask, width=3)).tolist()
        [0, 128, 255]
    """
    inside = np.asarray(mask) != 0
    return _banded(inside, inside, width, mask_cell(inside) if cell is None else cell, cleaning)


def trimap_from_probability(
    probability: np.ndarray,
    width: float | None = None,
    cell: float = 1.0,
    cleaning: Cleaning = SEGMENTATION,
) -> np.ndarray:
    """Draw an unknown band where a segmentation is not sure, and a margin around it.

    Args:
        probability: (H, W) float in [0, 1] of the object, or a soft mask.
        width: see `trimap_from_mask`; the margin beyond the probabilities of 0.05 and 0.95.
        cell: pixels of the picture that one cell of the segmentation's grid covers: its edge is uncertain by as much.
        cleaning: specks to remove first.

    Returns:
        (H, W) uint8 of 0, 128 and 255.

    Raises:
        InputError: see `trimap_from_mask`; NaN in the probabilities.

    Example:
        >>> probability = np.repeat([[0.0, 0.5, 1.0]], 40, axis=0).repeat(20, axis=1)  # a soft edge of 20 pixels
        >>> trimap = trimap_from_probability(probability, width=4)
        >>> [int((trimap[20] == value).sum()) for value in (0, 128, 255)]
        [16, 28, 16]
    """
    if not np.isfinite(probability).all():
        raise InputError("probabilities: expected numbers from 0 to 1, got NaN or infinity")
    return _banded(probability >= SURE_FOREGROUND, probability >= SURE_BACKGROUND, width, cell, cleaning)


def mask_cell(mask: np.ndarray) -> int:
    """Side of the largest squares, aligned with the picture's corner, that a mask is constant in: 1 to 64 pixels.

    A mask of a network's grid that was enlarged without interpolation is made of such squares.
    """
    inside = np.asarray(mask) != 0
    changes = [
        np.flatnonzero((inside[1:] != inside[:-1]).any(axis=1)) + 1,
        np.flatnonzero((inside[:, 1:] != inside[:, :-1]).any(axis=0)) + 1,
    ]
    edges = np.concatenate(changes)
    if not edges.size:
        return 1
    common = int(np.gcd.reduce(edges))
    # A gcd of a few edges, or of objects of a few cells, is chance: boxes at round coordinates are not made of cells.
    _, _, facts, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    size = np.sqrt(facts[1:, cv2.CC_STAT_AREA].max())
    return common if common <= min(LARGEST_CELL, size / LEAST_CELLS) and edges.size >= LEAST_EDGES else 1


def unknown_share(trimap: np.ndarray) -> float:
    """Share of unknown pixels, from 0 to 1."""
    return float((trimap == UNKNOWN).mean()) if trimap.size else 0.0


def _banded(sure: np.ndarray, possible: np.ndarray, width: float | None, cell: float, cleaning: Cleaning) -> np.ndarray:
    """The trimap of what is surely and what is possibly inside."""
    for name, value in (("width", width), ("cell", cell)):
        if value is not None and not 0 <= value < np.inf:
            raise InputError(f"{name}: expected 0 pixels or more, got {value}")
    possible, sure = _cleaned(possible, sure, cleaning)
    count, objects, facts, _ = cv2.connectedComponentsWithStats(possible.astype(np.uint8), connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0  # the background
    foreground, near = np.zeros_like(sure), possible.copy()
    for radius, members in _by_radius(areas, count, width, cell, INNER_SHARE):
        foreground |= members[objects] & (_distance_to(~sure) > radius)
    for radius, members in _by_radius(areas, count, width, cell, OUTER_SHARE):
        near |= _distance_to(members[objects]) <= radius
    trimap = np.full(sure.shape, BACKGROUND, np.uint8)
    trimap[near] = UNKNOWN
    trimap[foreground] = FOREGROUND
    return trimap


def _by_radius(
    areas: np.ndarray, count: int, width: float | None, cell: float, share: float
) -> Iterator[tuple[float, np.ndarray]]:
    """The different radii of the bands, each with a (count,) boolean table of the objects that have it."""
    if width is not None:
        radii = np.full(count, float(width))
    else:
        radii = np.rint(cell / 2 + share * np.sqrt(areas)).clip(SMALLEST_RADIUS, LARGEST_RADIUS)
    radii[0] = np.nan
    for radius in np.unique(radii[1:]):
        yield float(radius), radii == radius


def _distance_to(inside: np.ndarray) -> np.ndarray:
    """(H, W) float32 distance of every pixel to the nearest one inside; infinite where there is none."""
    if not inside.any():
        return np.full(inside.shape, np.inf, np.float32)
    return cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _cleaned(possible: np.ndarray, sure: np.ndarray, cleaning: Cleaning) -> tuple[np.ndarray, np.ndarray]:
    """Both regions without small objects and small holes."""
    size = possible.size
    if cleaning.smallest_island or cleaning.smallest_of_largest or cleaning.largest_only:
        count, objects, facts, _ = cv2.connectedComponentsWithStats(possible.astype(np.uint8), connectivity=8)
        areas = facts[1:, cv2.CC_STAT_AREA]
        if count > 1:
            least = max(cleaning.smallest_island * size, cleaning.smallest_of_largest * areas.max())
            large = areas >= least
            large[np.argsort(-areas, kind="stable")[cleaning.largest_only :]] &= cleaning.largest_only is None
            kept = np.concatenate([[False], large])[objects]
            possible, sure = kept, sure & kept
    if cleaning.smallest_hole:
        possible = possible | _small_regions(~possible, cleaning.smallest_hole * size)
        sure = sure | _small_regions(~sure, cleaning.smallest_hole * size) & possible
    return possible, sure


def _small_regions(region: np.ndarray, largest: float) -> np.ndarray:
    """The parts of a region, connected by their sides, that are smaller than `largest` pixels and off the border."""
    _, parts, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=4)
    small = facts[:, cv2.CC_STAT_AREA] < largest
    small[0] = False
    for border in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        small[np.unique(border)] = False
    return small[parts]
