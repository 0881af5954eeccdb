"""Nets and wire: lattices flat, sagging or rolled, and bent round into baskets and cages."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, metal_colour, varied
from data.rendering.curves import Field, grid_faces, repeated_faces, resampled, sphere, tubes
from data.rendering.model import Finish, Mesh, Model
from data.rendering.wires import lattice, metal, rolled, sagging, twine, worn

FRONT = np.array([0.0, 1.0, 0.0])


def net(rng: np.random.Generator) -> Model:
    """A knotted or woven net: fishing net, tennis net, hammock, string bag; it sags and wrinkles."""
    cells = int(rng.integers(7, 34))
    warp = sagging(rng, rng.uniform(0.02, 0.3))
    lines = lattice(rng, cells, str(rng.choice(["square", "diamond", "square"])), rng.uniform(0, 0.12))
    colour, twisted = any_colour(rng), rng.random() < 0.35
    radius = np.exp(rng.uniform(np.log(0.04), np.log(0.15))) / cells
    finish = Finish(rng.uniform(0, 0.15), rng.uniform(8, 40), 0.2, 0.2, 2.0)
    meshes, strands = [], []
    for curves in lines:
        bent = warp(curves)
        if twisted:
            strands.append(twine(rng, bent, radius * 1.3, colour))
        else:
            meshes.append(tubes(bent, np.full(bent.shape[:2], radius), worn(rng, bent, colour), 6, finish))
    knots = (
        []
        if twisted or rng.random() < 0.5
        else [_knots(rng, lines, warp, radius * rng.uniform(1.5, 2.4), colour, finish)]
    )
    return Model(
        strands, [*meshes, *knots, *_rim(rng, warp, radius)], facing=FRONT, spread=0.8, any_roll=True, closest=3
    )


def wire_mesh(rng: np.random.Generator) -> Model:
    """Chicken wire, chain link, welded or expanded mesh: a fence, flat or rolled."""
    kind = str(rng.choice(["square", "hexagon", "diamond", "hexagon"]))
    cells = int(rng.integers(6, 30))
    lines = lattice(rng, cells, kind, rng.uniform(0, 0.02))
    warp = rolled(rng, rng.uniform(0.5, 2.5)) if rng.random() < 0.3 else sagging(rng, rng.uniform(0, 0.08))
    radius = np.exp(rng.uniform(np.log(0.02), np.log(0.1))) / cells
    colour = metal_colour(rng)
    meshes = [
        tubes(warp(curves), np.full(curves.shape[:2], radius), worn(rng, curves, colour), 6, metal(rng))
        for curves in lines
    ]
    return Model([], meshes + _rim(rng, warp, 2 * radius), facing=FRONT, spread=0.8, any_roll=True, closest=3)


def basket(rng: np.random.Generator) -> Model:
    """A basket, bin, cage or lampshade of wire or wicker: a lattice bent round a turned shape."""
    around, rows = int(rng.integers(24, 90)), int(rng.integers(6, 30))
    low, high, belly = rng.uniform(0.45, 0.8), rng.uniform(0.6, 1.0), rng.normal(0, 0.15)
    height = rng.uniform(0.8, 1.9)

    def turned(curves: np.ndarray) -> np.ndarray:
        """(u, 0, v) in [0, 1] to a surface of revolution."""
        v, angle = curves[..., 2], 2 * np.pi * curves[..., 0]
        r = low + (high - low) * v + belly * np.sin(np.pi * v) + curves[..., 1]
        return np.stack([r * np.cos(angle), r * np.sin(angle), height * (v - 0.5)], -1)

    wicker = rng.random() < 0.3
    colour = bark_colour(rng) if wicker else metal_colour(rng)
    finish = Finish(0.06, 15, 0, 0, 4.0) if wicker else metal(rng)
    radius = np.exp(rng.uniform(np.log(0.08), np.log(0.22))) * 2 * np.pi * 0.7 / around
    if wicker:
        radius = 0.42 * height / rows / 2
    u, v = np.linspace(0, 1, 181), np.linspace(0, 1, 61)
    diagonal = not wicker and rng.random() < 0.45
    slant = rng.integers(2, 9) / around * rows / 3 if diagonal else 0.0
    posts = []
    for sign in (1, -1) if diagonal else (1,):
        start = np.arange(around) / around
        bow = (
            1.3 * radius * np.sin(np.pi * rows * v + 0)[None] * np.where(np.arange(around) % 2, 1, -1)[:, None] * wicker
        )
        posts.append(np.stack(np.broadcast_arrays(start[:, None] + sign * slant * v[None], bow, v[None]), -1))
    rings = np.linspace(0, 1, rows)
    if diagonal:
        rings = rings[[0, -1]]
    wave = (
        1.2
        * radius
        * np.sin(np.pi * around / (2 if around % 2 == 0 else 1) * u)[None]
        * np.where(np.arange(len(rings)) % 2, 1, -1)[:, None]
    )
    hoops = np.stack(np.broadcast_arrays(u[None], wave * wicker, rings[:, None]), -1)
    if wicker:
        hoops = resampled(hoops, 181)
    meshes = [
        tubes(turned(c), np.full(c.shape[:2], radius), worn(rng, turned(c), colour), 7, finish) for c in (*posts, hoops)
    ]
    rim = np.stack(np.broadcast_arrays(u[None], np.zeros(1)[:, None], np.ones(1)[:, None]), -1)
    thick = radius * rng.uniform(1.5, 3)
    meshes.append(tubes(turned(rim), np.full((1, 181), thick), worn(rng, turned(rim), colour), 10, finish))
    if rng.random() < 0.6:
        meshes.append(_floor(rng, low, height, colour, finish))
    if rng.random() < 0.3:
        meshes.append(_handle(rng, high, height, thick, colour, finish))
    return Model([], meshes, elevation=(-0.3, 0.7), closest=2.8)


def _knots(
    rng: np.random.Generator, lines: list[np.ndarray], warp: Field, radius: float, colour: np.ndarray, finish: Finish
) -> Mesh:
    at = lines[0][:, ::6].reshape(-1, 3) if len(lines) > 1 else lines[0][:, 3::6].reshape(-1, 3)
    ball, ball_faces = sphere()
    lumps = ball[None] * radius * rng.lognormal(0, 0.2, (len(at), 1, 3))
    vertices = warp(at)[:, None] + lumps
    faces = repeated_faces(ball_faces, len(ball), len(at))
    albedo = np.repeat(varied(rng, colour, len(at), 0.1), len(ball), axis=0)
    return Mesh(vertices.reshape(-1, 3), faces, albedo, finish)


def _rim(rng: np.random.Generator, warp: Field, radius: float) -> list[Mesh]:
    """Sometimes a rope, a frame or posts round a net."""
    if rng.random() < 0.5:
        return []
    t = np.linspace(-1, 1, 40)
    one = np.ones_like(t)
    sides = np.stack([np.stack(p, -1) for p in ((t, 0 * t, one), (t, 0 * t, -one), (one, 0 * t, t), (-one, 0 * t, t))])
    sides = sides[rng.random(4) < 0.7] if rng.random() < 0.5 else sides
    if len(sides) == 0:
        return []
    thick = radius * rng.uniform(2, 7)
    colour = any_colour(rng)
    return [tubes(warp(sides), np.full(sides.shape[:2], thick), colour[None, None], 12, Finish(0.15, 25, 0, 0, 4.0))]


def _floor(rng: np.random.Generator, low: float, height: float, colour: np.ndarray, finish: Finish) -> Mesh:
    r, u = np.linspace(0, low, 6)[:, None], np.linspace(0, 2 * np.pi, 49)
    vertices = np.stack([r * np.cos(u), r * np.sin(u), -height / 2 + 0 * r * u], -1).reshape(-1, 3)
    return Mesh(vertices, grid_faces(6, 49), np.tile(colour, (len(vertices), 1)), finish)


def _handle(
    rng: np.random.Generator, high: float, height: float, thick: float, colour: np.ndarray, finish: Finish
) -> Mesh:
    a = np.linspace(0, np.pi, 40)
    rise = rng.uniform(0.4, 1.2)
    curve = np.stack([high * np.cos(a), 0 * a, height / 2 + rise * np.sin(a)], -1)[None]
    return tubes(curve, np.full((1, 40), thick), colour[None, None], 10, finish)
