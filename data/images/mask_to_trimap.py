"""Trimaps from masks and from probabilities: a band of unknown pixels along the edge of each object.

The width of the band grows with the uncertainty of the mask and the size of the object. Distances are Euclidean,
between pixel centres, so a band of r pixels equals the difference of dilation and erosion by a disc of radius r.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from runtime.errors import InputError

# Radius of the band in addition to half a cell, as a share of the object's size (the square root of its area). Hair
# extends outwards more than inwards. Half of these values gave larger errors on procedural images
# (tools/benchmark_trimap.py).
INNER_SHARE, OUTER_SHARE = 0.02, 0.03
SMALLEST_RADIUS, LARGEST_RADIUS = 1, 75  # limits in pixels of a band whose width is computed from the mask
SURE_FOREGROUND, SURE_BACKGROUND = 0.95, 0.05  # probabilities
LARGEST_CELL = 64  # pixels
LEAST_CELLS, LEAST_EDGES = 8, 8  # an enlarged mask has this many cells across an object, and edges in rows and columns


@dataclass(frozen=True)
class Cleaning:
    """Specks that are removed from a mask before its band is drawn, in shares of the picture's area.

    Args:
        smallest_island: share of the picture below which objects are removed.
        smallest_of_largest: share of the largest object below which objects are removed.
        smallest_hole: share of the picture below which holes are filled.
        largest_only: number of objects that are kept, the largest first; None for all.

    Raises:
        InputError: a share is outside [0, 1], or `largest_only` is below 1.
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
SEGMENTATION = Cleaning(smallest_island=0.001, smallest_of_largest=0.1, smallest_hole=0.001)


def trimap_from_mask(
    mask: np.ndarray, width: float | None = None, cell: float | None = None, cleaning: Cleaning = KEEP_ALL
) -> np.ndarray:
    """Draw an unknown band along the edges of a binary mask.

    Holes, islands and thin parts are kept. Parts that are thinner than the band become unknown as a whole. The mask is
    continued beyond the picture's border, so an object that the frame cuts has no band along the frame.

    Args:
        mask: (H, W), True or nonzero inside objects.
        width: width of the band in pixels on each side of the edge; None to compute it from each object's size and
            from `cell`.
        cell: side in pixels of the squares of a mask that was enlarged from a coarse grid; None to detect it by
            `mask_cell`.
        cleaning: specks to remove first.

    Returns:
        (H, W) uint8 of 0 (background), 128 (unknown) and 255 (foreground).

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
    """Draw an unknown band where a segmentation is uncertain, with a margin around it.

    Args:
        probability: probability of the object (H, W), float in [0, 1], or a soft mask.
        width: width of the margin beyond the probabilities of 0.05 and 0.95; see `trimap_from_mask`.
        cell: side in pixels of a cell of the segmentation's grid, which is the uncertainty of its edge.
        cleaning: specks to remove first.

    Returns:
        (H, W) uint8 of 0, 128 and 255.

    Raises:
        InputError: see `trimap_from_mask`; a probability is NaN or infinite.

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
    """Side (1 to 64 pixels) of the largest squares, aligned with the picture's corner, in which a mask is constant.

    A mask that was enlarged from a network's grid without interpolation consists of such squares.
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
    # With few edges, or few cells in an object, a common divisor may be chance, such as in boxes at round coordinates.
    _, _, facts, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    size = np.sqrt(facts[1:, cv2.CC_STAT_AREA].max())
    return common if common <= min(LARGEST_CELL, size / LEAST_CELLS) and edges.size >= LEAST_EDGES else 1


def unknown_share(trimap: np.ndarray) -> float:
    """Share of unknown pixels, from 0 to 1."""
    return float((trimap == UNKNOWN).mean()) if trimap.size else 0.0


def _banded(sure: np.ndarray, possible: np.ndarray, width: float | None, cell: float, cleaning: Cleaning) -> np.ndarray:
    """Trimap of the region that is certainly inside and the region that is possibly inside."""
    for name, value in (("width", width), ("cell", cell)):
        if value is not None and not 0 <= value < np.inf:
            raise InputError(f"{name}: expected 0 pixels or more, got {value}")
    possible, sure = _cleaned(possible, sure, cleaning)
    count, objects, facts, _ = cv2.connectedComponentsWithStats(possible.astype(np.uint8), connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA].astype(np.float64)
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
    """Yield the distinct radii of the bands, each with a (count,) boolean table of its objects."""
    if width is not None:
        radii = np.full(count, float(width))
    else:
        radii = np.rint(cell / 2 + share * np.sqrt(areas)).clip(SMALLEST_RADIUS, LARGEST_RADIUS)
    radii[0] = np.nan
    for radius in np.unique(radii[1:]):
        yield float(radius), radii == radius


def _distance_to(inside: np.ndarray) -> np.ndarray:
    """Distance (H, W) float32 of every pixel to the nearest pixel inside; infinite if there is none."""
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
    """4-connected parts of a region that are smaller than `largest` pixels and do not touch the border."""
    _, parts, facts, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=4)
    small = facts[:, cv2.CC_STAT_AREA] < largest
    small[0] = False
    for border in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        small[np.unique(border)] = False
    return small[parts]
