"""Wire, twine and the lattices they form: curves of nets, and warps that bend a flat net."""

import numpy as np

from data.rendering.colours import varied
from data.rendering.curves import Field, helices, resampled, smooth_field
from data.rendering.model import Finish, Strands


def lattice(rng: np.random.Generator, cells: int, kind: str, jitter: float) -> list[np.ndarray]:
    """Curves of a unit square from -1 to 1 in x and z at y = 0: lists of (n, m, 3)."""
    fine = np.linspace(-1, 1, 6 * cells + 1)
    lines = np.linspace(-1, 1, cells + 1)
    wobble = smooth_field(rng, 2.5 * cells, 2)
    thick = 0.35 / cells * rng.uniform(0, 1)

    def moved(x: np.ndarray, z: np.ndarray, over: np.ndarray) -> np.ndarray:
        points = np.stack(np.broadcast_arrays(x, over * thick * 0.3, z), -1)
        shift = jitter / cells * wobble(points)
        return points + np.stack([shift[..., 0], 0 * shift[..., 0], shift[..., 1]], -1)

    if kind == "square":
        weave = np.cos(np.pi * (fine + 1) / 2 * cells)[None] * np.where(np.arange(cells + 1) % 2, 1, -1)[:, None]
        shape = (cells + 1, len(fine))
        return [
            moved(np.broadcast_to(fine, shape), np.broadcast_to(lines[:, None], shape), weave),
            moved(np.broadcast_to(lines[:, None], shape), np.broadcast_to(fine, shape), -weave),
        ]
    if kind == "diamond":  # chain link: zigzags that hook into their neighbours
        tooth = 2 * np.abs(((fine + 1) / 2 * cells) % 2 - 1) - 1
        shape = (cells + 1, len(fine))
        x = lines[:, None] + tooth / cells * np.where(np.arange(cells + 1) % 2, 1, -1)[:, None] * 1.0
        over = np.sin(np.pi * (fine + 1) / 2 * cells)[None]
        return [moved(np.broadcast_to(x, shape), np.broadcast_to(fine, shape), np.broadcast_to(over, shape))]
    # hexagons: neighbouring wires are twisted together on every second step
    phase = ((fine + 1) / 2 * cells) % 2
    profile = np.clip(np.minimum(phase, 2 - phase) * 2.4 - 0.7, 0, 1) - 0.5
    x = lines[:, None] + profile * 0.94 / cells * 2 * np.where(np.arange(cells + 1) % 2, 0.5, -0.5)[:, None] * 2
    twist = np.abs(np.abs(profile) - 0.5) < 0.01
    over = np.sin(6 * np.pi * phase)[None] * twist * np.where(np.arange(cells + 1) % 2, 3, -3)[:, None]
    shape = (cells + 1, len(fine))
    return [moved(np.broadcast_to(x, shape), np.broadcast_to(fine, shape), np.broadcast_to(over, shape))]


def sagging(rng: np.random.Generator, depth: float) -> Field:
    """A warp of the plane y = 0: wrinkles, folds and a slight stretch."""
    coarse, fine = smooth_field(rng, rng.uniform(1, 3), 3), smooth_field(rng, rng.uniform(4, 9), 3)
    folds, pace = rng.uniform(0, 1) * (rng.random() < 0.4), rng.uniform(4, 10)

    def warp(points: np.ndarray) -> np.ndarray:
        moved = depth * (coarse(points) * [0.3, 1, 0.3] + 0.2 * fine(points) * [0.4, 1, 0.4])
        moved[..., 1] += depth * folds * np.sin(pace * points[..., 0])
        return points + moved

    return warp


def rolled(rng: np.random.Generator, angle: float) -> Field:
    """A warp that bends x around an upright axis by a total of `angle`."""
    radius = 2 / angle

    def warp(points: np.ndarray) -> np.ndarray:
        a = points[..., 0] / radius
        r = radius + points[..., 1]
        return np.stack([r * np.sin(a), r * np.cos(a) - radius, points[..., 2]], -1)

    return warp


def metal(rng: np.random.Generator) -> Finish:
    return Finish(rng.uniform(0.15, 0.9), rng.uniform(15, 120), 0.6, 0.0, 4.0)


def worn(rng: np.random.Generator, curves: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Albedo (n, m, 3) of one colour with dirt, rust or fading."""
    stain = smooth_field(rng, rng.uniform(2, 8))(curves)
    rust = np.clip(stain - 0.9, 0, 1) * (rng.random() < 0.3)
    albedo = colour * np.exp(rng.uniform(0, 0.25) * stain)
    return np.clip(albedo + rust * (np.array([0.25, 0.09, 0.03]) - albedo), 0, 0.95)


def twine(
    rng: np.random.Generator, curves: np.ndarray, radius: float, colour: np.ndarray, plies: int = 3, per: int = 5
) -> Strands:
    """Twisted twine of `plies` plies along (n, m, 3) curves, each of `per` fibres."""
    n, m = curves.shape[:2]
    length = np.linalg.norm(np.diff(curves, axis=1), axis=-1).sum(1)
    fine = resampled(curves, min(int(max(2 * m, length.max() / radius / 1.2)), 240))
    turns = length / (radius * rng.uniform(7, 12))
    fibres = []
    for ply in range(plies):
        core = helices(fine, 0.5 * radius, turns, np.full(n, 2 * np.pi * ply / plies))
        fibres += [helices(core, 0.36 * radius, turns * 1.7, np.full(n, 2 * np.pi * k / per + ply)) for k in range(per)]
    points = np.concatenate(fibres)
    albedo = varied(rng, colour, len(points), 0.12)[:, None]
    return Strands(points, np.full(points.shape[:2], 0.3 * radius), albedo, Finish(0.05, 20, 0.15, 0.3, 1.0))
