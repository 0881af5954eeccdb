"""Parts of plants: leaves of many outlines, stems that branch, stalks."""

from dataclasses import dataclass

import numpy as np

from data.rendering.colours import varied
from data.rendering.curves import frames, grid_faces, grown, repeated_faces, resampled, smooth_field, tubes, unit
from data.rendering.model import Finish, Mesh

BARK = Finish(0.05, 12, 0.0, 0.0, 4.0)
STEM = Finish(0.12, 25, 0.3, 0.1, 3.0)


@dataclass(frozen=True)
class Leaf:
    """Outline and posture of one kind of leaf or petal.

    Attributes:
        aspect: ratio of half width to length.
        profile: (m,) half width along the leaf, at most 1, with several values for each lobe.
        fold: height of the edges above the midrib, as a share of the half width; negative values bend them down.
        droop: bend along the leaf in radians; positive values bend the tip away from the upper side.
        wave: waviness of the edge, as a share of the half width.
        across: number of vertices across the blade.
        finish: reflection of the surface.
        vein: difference in brightness between the midrib and veins and the blade.
        edge: shift of the colour towards `edge_colour` at the edge and the tip.
    """

    aspect: float
    profile: np.ndarray
    fold: float
    droop: float
    wave: float
    across: int
    finish: Finish
    vein: float
    edge: float
    edge_colour: np.ndarray


def stations(count: int) -> np.ndarray:
    """Positions along a leaf, 0 to 1, closer together at both ends, where outlines are round."""
    t = np.linspace(0, 1, count)
    return 0.35 * t + 0.65 * (0.5 - 0.5 * np.cos(np.pi * t))


def drawn_leaf(rng: np.random.Generator, aspect: float, points: int = 12, lobed: float = 0.2) -> Leaf:
    """A random leaf: ovate, lanceolate, rounded or heart-shaped; plain, toothed or (for the share `lobed`) lobed."""
    points = 30 if rng.random() < lobed else points
    s = stations(points)
    rise, fall = rng.uniform(0.35, 1.1), rng.uniform(0.45, 1.3)
    profile = np.maximum(s, 1e-4) ** rise * np.maximum(1 - s, 1e-4) ** fall
    profile = profile / profile.max()
    if points == 30:
        lobes, depth = rng.integers(3, 8), rng.uniform(0.15, 0.65)
        profile = profile * (1 - depth * (0.5 + 0.5 * np.cos(2 * np.pi * lobes * (s + 0.15 * s**2))))
    profile = profile * (0.97 + 0.03 * np.cos(np.arange(points) * np.pi)) + 0.015
    shine = rng.uniform(0.02, 0.4) ** 1.3
    return Leaf(
        aspect, profile, rng.normal(0.25, 0.25), rng.normal(0.5, 0.6), rng.uniform(0, 0.2), 5,
        Finish(shine, rng.uniform(8, 70), 0.0, rng.uniform(0.4, 1.0), 1.4),
        rng.normal(0.15, 0.2), rng.uniform(0, 0.9) if rng.random() < 0.3 else 0.0,
        np.array([0.35, 0.2, 0.06]) * rng.uniform(0.5, 1.6),
    )  # fmt: skip


def leaves(
    rng: np.random.Generator, leaf: Leaf, bases: np.ndarray, directions: np.ndarray, ups: np.ndarray,
    lengths: np.ndarray, colours: np.ndarray,
) -> Mesh:  # fmt: skip
    """Blades that start at (n, 3) `bases` along `directions` with their upper sides towards `ups`; colours (n, 3)."""
    n, m, a = len(bases), len(leaf.profile), leaf.across
    s, c = stations(m), np.linspace(-1, 1, a)
    y = unit(directions)
    x = unit(np.cross(y, ups) + 1e-9)
    z = np.cross(x, y)
    bend = (leaf.droop + rng.normal(0, 0.3, n))[:, None] * s[None]  # (n, m) angle of the midrib below its start
    step, gap = lengths[:, None], np.diff(s, prepend=0.0)
    forward, down = np.cumsum(gap * np.cos(bend), 1), np.cumsum(gap * np.sin(bend), 1)
    side_bend = rng.normal(0, 0.12, n)[:, None] * s[None] ** 2 * lengths[:, None]
    midrib = (
        bases[:, None]
        + (step * forward)[..., None] * y[:, None]
        - (step * down)[..., None] * z[:, None]
        + side_bend[..., None] * x[:, None]
    )
    normal = np.cos(bend)[..., None] * z[:, None] + np.sin(bend)[..., None] * y[:, None]
    half = leaf.aspect * lengths[:, None] * leaf.profile[None] * rng.lognormal(0, 0.08, (n, 1))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    wave = leaf.wave * np.sin(rng.uniform(8, 16, (n, 1, 1)) * s[None, :, None] + phase + 1.5 * c) * np.abs(c)
    fold = (leaf.fold + rng.normal(0, 0.08, (n, 1, 1))) * np.abs(c) ** 1.5 + wave
    vertices = (
        midrib[:, :, None]
        + (half[..., None] * c)[..., None] * x[:, None, None]
        + (half[..., None] * fold)[..., None] * normal[:, :, None]
    )
    vein = np.exp(leaf.vein * (np.exp(-((6 * c) ** 2)) + 0.35 * np.cos(18 * s[:, None] - 5 * np.abs(c))))  # (m, a)
    faded = leaf.edge * np.clip(0.75 * np.abs(c) ** 3 + s[:, None] ** 3, 0, 1)
    colour = colours[:, None, None] * vein[None, ..., None]
    colour = colour + (faded * (rng.random((n, 1, 1)) < 0.7))[..., None] * (leaf.edge_colour - colour)
    colour = colour * np.exp(0.09 * smooth_field(rng, 14 / max(float(np.median(lengths)), 1e-6))(vertices))
    faces = repeated_faces(grid_faces(m, a), m * a, n)
    return Mesh(vertices.reshape(-1, 3), faces, np.clip(colour, 0, 0.97).reshape(-1, 3), leaf.finish)


def branched(
    rng: np.random.Generator, parents: np.ndarray, per_parent: int, angle: float, length: float, points: int,
    pull: np.ndarray, bend: float, start: float = 0.25, whorl: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Branches of (n, m, 3) curves: (n * per_parent, points, 3), and their starts on their parents, in [0, 1].

    Args:
        angle: angle in radians between a branch and its parent. length: length of the lowest branch; higher ones are
            shorter.
        start: bare share of the parent. whorl: whether branches alternate to opposite sides in one plane, as in ferns.
    """
    tangents, first, second = frames(parents)
    n, m = parents.shape[:2]
    at = np.linspace(start, 0.97, per_parent)[None] + rng.normal(0, 0.2 / per_parent, (n, per_parent))
    at = np.clip(at, 0, 0.999)
    k = np.minimum((at * (m - 1)).astype(int), m - 2)
    t = (at * (m - 1) - k)[..., None]
    rows = np.arange(n)[:, None]
    origin = parents[rows, k] + t * (parents[rows, k + 1] - parents[rows, k])
    if whorl:
        around = np.pi * np.arange(per_parent)[None] + rng.normal(0, 0.25, (n, per_parent))
    else:
        around = 2.4 * np.arange(per_parent)[None] + rng.normal(0, 0.5, (n, per_parent)) + rng.uniform(0, 6.28, (n, 1))
    outward = np.cos(around)[..., None] * first[rows, k] + np.sin(around)[..., None] * second[rows, k]
    tilt = angle * rng.lognormal(0, 0.15, (n, per_parent, 1))
    heading = np.cos(tilt) * tangents[rows, k] + np.sin(tilt) * outward
    lengths = length * (1 - 0.7 * at) * rng.lognormal(0, 0.15, at.shape)
    curves = grown(
        rng, origin.reshape(-1, 3), heading.reshape(-1, 3), lengths.reshape(-1), points, pull=pull, bend=bend
    )
    return curves, at.reshape(-1)


def stalks(
    rng: np.random.Generator, curves: np.ndarray, radius: np.ndarray, colour: np.ndarray, sides: int = 7,
    finish: Finish = STEM, taper: float = 0.6,
) -> Mesh:  # fmt: skip
    """Tubes that taper by the share `taper`, with radius (n,) at the root and one mottled colour."""
    n, m = curves.shape[:2]
    s = np.linspace(0, 1, m)
    shade = np.exp(0.2 * smooth_field(rng, 6 / max(np.ptp(curves), 1e-6) * 3)(curves))
    albedo = np.clip(varied(rng, colour, n, 0.12)[:, None] * shade, 0, 0.97)
    width = 1 - taper * s
    width[-1] = 0.02  # closes the tip
    return tubes(curves, radius[:, None] * width, albedo, sides, finish)


def along(curves: np.ndarray, count: int, start: float = 0.05, end: float = 1.0) -> tuple[np.ndarray, ...]:
    """`count` positions spaced evenly on each curve: positions, tangents and normals (n * count, 3)."""
    fine = resampled(curves, max(curves.shape[1], 2 * count))
    tangents, first, _ = frames(fine)
    index = np.round(np.linspace(start, end, count) * (fine.shape[1] - 1)).astype(int)
    return tuple(part[:, index].reshape(-1, 3) for part in (fine, tangents, first))
