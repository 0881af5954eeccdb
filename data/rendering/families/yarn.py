"""Yarn: balls and skeins, knitted cloth, tassels and fringes, rope; plied and fuzzy."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, varied
from data.rendering.curves import even, grid_faces, grown, helices, resampled, smooth_field, tubes, unit
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.solids import ellipsoids, meshed, outwards

WOOL = Finish(0.03, 14, 0.12, 0.35, 1.0)
SILK = Finish(0.14, 50, 0.3, 0.4, 1.0)


def ball_of_yarn(rng: np.random.Generator) -> Model:
    """Yarn wound into a ball or a cocoon, with a loose end."""
    turns, m = int(rng.integers(60, 160)), 40
    stretch = np.array([1, 1, rng.uniform(0.75, 1.3)]) * rng.uniform(0.95, 1.05, 3)
    thick = rng.uniform(0.02, 0.05)
    count = int(min(turns, 4.2 / thick))
    axis = unit(rng.normal(size=(count, 3)) * rng.choice([[1, 1, 1], [1, 1, 0.3]]))
    # wound in sheaves of nearly parallel turns, as hands do
    sheaf = np.repeat(unit(rng.normal(size=(max(count // 8, 1), 3))), 8, axis=0)[: len(axis)]
    axis[: len(sheaf)] = unit(sheaf + 0.12 * axis[: len(sheaf)])
    helper = unit(np.cross(axis, rng.normal(size=3)))
    other = np.cross(axis, helper)
    a = rng.uniform(0, 6.28, (count, 1)) + np.linspace(0, 2 * np.pi * rng.uniform(0.7, 1.0), m)[None]
    lift = rng.uniform(-0.25, 0.25, (count, 1, 1))
    circle = np.cos(a)[..., None] * helper[:, None] + np.sin(a)[..., None] * other[:, None] + lift * axis[:, None]
    layer = 1 - thick * rng.uniform(0, 2.2, (count, 1, 1))
    curves = unit(circle) * layer * stretch
    end = np.array([0.9, 0.2, -0.2]) + np.linspace(0, 1, 6)[:, None] * [0.9, 0.5, -0.9] + rng.normal(0, 0.15, (6, 3))
    tail = resampled(end[None], m)
    colours = _yarn_colours(rng)
    strands = plied(rng, np.concatenate([curves, tail]), thick, colours, budget=320000)
    core = meshed(ellipsoids(np.zeros((1, 3)), (0.95 - 2 * thick) * stretch[None]), [-1.5] * 3, [1.5] * 3, 30)
    body = Mesh(core[0], outwards(*core), np.tile(0.35 * colours[0], (len(core[0]), 1)), Finish(0, 10, 0, 0, 5.0))
    return Model(strands, [body], any_roll=True)


def knit(rng: np.random.Generator) -> Model:
    """Knitted cloth in stocking stitch: flat with a curled edge, or round like a hat or sleeve."""
    columns = int(rng.integers(12, 40))
    rows = int(np.clip(columns * rng.uniform(0.7, 1.6), 10, 48))
    per = 12
    t = np.arange(columns * per + 1) / per
    theta = 2 * np.pi * t
    x = t + 0.24 * np.sin(2 * theta)
    up = -0.58 * np.cos(theta)
    depth = 0.2 * np.cos(2 * theta)
    row = np.arange(rows)[:, None]
    wobble = smooth_field(rng, 0.8, 3)
    flat = np.stack(np.broadcast_arrays(x[None], depth[None], row * 0.72 + up[None]), -1)
    flat = flat + 0.05 * wobble(flat)
    scale = 2 / max(columns, 0.72 * rows)
    flat = (flat - [columns / 2, 0, 0.36 * rows]) * scale
    if rng.random() < 0.5:
        radius = 0.985 * columns * scale / (2 * np.pi)  # the ends overlap a little
        shape = rng.uniform(0.0, 0.6)
        v = flat[..., 2] / (0.36 * rows * scale)
        r = radius * (1 - shape * np.clip(v, 0, 1) ** 2) + flat[..., 1]
        a = flat[..., 0] / radius
        points = np.stack([r * np.sin(a), r * np.cos(a), flat[..., 2]], -1)
        facing = None
    else:
        fold = smooth_field(rng, rng.uniform(1, 2.5))
        points = flat + np.array([0, 1, 0]) * rng.uniform(0.02, 0.3) * fold(flat * [1, 0, 1])
        facing = np.array([0, -1.0, 0])
    colours = _yarn_colours(rng)
    stripes = len(colours) > 1 and rng.random() < 0.6
    albedo = _striped(rng, rows, colours) if stripes else None
    strands = plied(rng, points, rng.uniform(0.26, 0.32) * scale, colours, budget=320000, albedo=albedo)
    return Model(strands, [], facing=facing, spread=0.7, elevation=(-0.2, 0.6), closest=2.6)


def tassel(rng: np.random.Generator) -> Model:
    """A fringe, mop or tassel: cords that hang side by side from a band, a knot or a head."""
    kind = rng.choice(["fringe", "tassel", "mop"])
    count = {
        "fringe": int(rng.integers(14, 70)),
        "tassel": int(rng.integers(60, 180)),
        "mop": int(rng.integers(60, 200)),
    }[kind]
    thick = np.exp(rng.uniform(np.log(0.006), np.log(0.028))) * (1 if kind != "fringe" else 1.3)
    length = rng.uniform(0.9, 1.8)
    if kind == "fringe":
        x = np.linspace(-1, 1, count)
        roots = np.stack(
            [x, rng.normal(0, 1.5 * thick, count), 0.8 + 0.1 * smooth_field(rng, 1.5)(np.stack([x, x, x], -1))[:, 0]],
            -1,
        )
        heading = np.array([0, 0, -1.0]) + rng.normal(0, 0.12, (count, 3))
    else:
        a, r = rng.uniform(0, 6.28, count), np.sqrt(rng.random(count)) * (0.16 if kind == "tassel" else 0.35)
        roots = np.stack([r * np.cos(a), r * np.sin(a), np.full(count, 0.7)], -1)
        heading = (
            np.array([0, 0, -1.0 if kind == "tassel" else 0.2])
            + roots * [2.0, 2.0, 0] * (1 if kind == "tassel" else 3)
            + rng.normal(0, 0.1, (count, 3))
        )
    lengths = length * rng.lognormal(0, 0.06, count)
    wind = rng.normal(0, 0.6, 3) * [1, 1, 0] * (rng.random() < 0.3)
    curves = grown(rng, roots, heading, lengths, 30, wind - [0, 0, rng.uniform(1, 4)], bend=rng.uniform(0.1, 0.7))
    colours = _yarn_colours(rng)
    albedo = np.stack([colours[i] for i in rng.integers(len(colours), size=count)])
    strands = plied(rng, curves, thick, colours, budget=320000, albedo=albedo, frayed=True)
    return Model(strands, _band(rng, kind, roots, thick, colours), elevation=(-0.4, 0.4), rooted="top", closest=2.5)


def rope(rng: np.random.Generator) -> Model:
    """Rope of three or more thick strands: a length, a coil, a loose knot; its end frays."""
    t = np.linspace(0, 1, 160)
    kind = rng.choice(["length", "coil", "knot"])
    if kind == "length":
        knots = np.stack([np.linspace(-1.2, 1.2, 7), rng.normal(0, 0.2, 7), rng.normal(0, 0.35, 7)], -1)
        core = resampled(knots[None], 160)
    elif kind == "coil":
        loops = rng.uniform(2.5, 6)
        a = 2 * np.pi * loops * t
        r = rng.uniform(0.5, 0.8) + 0.1 * smooth_field(rng, 5)(np.stack([t, t * 0, t * 0], -1))[:, 0]
        core = np.stack([r * np.cos(a), r * np.sin(a), -0.3 + rng.uniform(0.3, 0.8) * t], -1)[None]
    else:
        a = 2 * np.pi * (t * 0.98 + 0.01)
        core = (
            np.stack([np.sin(a) + 2 * np.sin(2 * a), np.cos(a) - 2 * np.cos(2 * a), -1.2 * np.sin(3 * a)], -1)[None] / 3
        )
    thick = rng.uniform(0.05, 0.13)
    natural = rng.random() < 0.6
    colours = [bark_colour(rng) ** 0.7] if natural else _yarn_colours(rng)
    strands = plied(rng, even(core, 160), thick, colours, budget=500000, hairy=rng.uniform(0.2, 1.0), frayed=True)
    return Model(strands, [], any_roll=True, elevation=(-0.6, 1.2))


def plied(
    rng: np.random.Generator, curves: np.ndarray, radius: float, colours: list[np.ndarray], budget: int,
    albedo: np.ndarray | None = None, hairy: float | None = None, frayed: bool = False,
) -> list[Strands]:  # fmt: skip
    """Yarn along (n, m, 3) curves: two to four plies of fibres, wound twice, and fuzz that stands off.

    Args:
        budget: number of points of all fibres together.
        albedo: (n, 3); None to choose from `colours`, which sometimes change along the yarn.
        hairy: amount of fuzz, 0 to 1. frayed: whether the ends of the curves open.
    """
    n = len(curves)
    plies, per = int(rng.choice([2, 3, 3, 4])), int(rng.integers(7, 16) * np.clip(radius / 0.025, 1, 5))
    length = np.linalg.norm(np.diff(curves, axis=1), axis=-1).sum(1)
    pitch = radius * rng.uniform(5, 11)
    m = int(np.clip(length.max() / pitch * 12, 24, 900))
    per = int(np.clip(budget / (n * m * plies), 2, per))
    m = int(min(m, budget / (n * plies * per)))
    fine = resampled(curves, m)
    turns = length / pitch
    if m < 6 * turns.max():  # too few points to wind so tightly
        turns = turns * (m / 6 / turns.max())
    s = np.linspace(0, 1, m)
    opening = np.ones(m) if not frayed else 1 + 1.2 * np.clip((s - 0.93) / 0.07, 0, 1) ** 2
    swell = opening * (1 + 0.12 * smooth_field(rng, 3 / radius / 12)(fine)[..., 0])
    fibres, owner = [], []
    for ply in range(plies):
        core = helices(fine, 0.52 * radius * swell, turns, np.full(n, 2 * np.pi * ply / plies))
        for _ in range(per):
            at = 0.46 * radius * np.sqrt(rng.uniform(0.2, 1, (n, 1))) * swell
            fibres.append(helices(core, at, turns * rng.uniform(1.5, 2.2), rng.uniform(0, 6.28, n)))
            owner.append(np.arange(n))
    points, owner = np.concatenate(fibres), np.concatenate(owner)
    if albedo is None:
        albedo = (
            np.stack([colours[i % len(colours)] for i in rng.integers(len(colours), size=n)])
            if rng.random() < 0.5
            else np.tile(colours[0], (n, 1))
        )
    shade = varied(rng, np.ones(3), len(points), 0.14)
    colour = np.clip(albedo[owner] * shade, 0, 0.97)[:, None]
    if len(colours) > 1 and rng.random() < 0.3:  # dyed in stretches
        dye = smooth_field(rng, rng.uniform(1, 5))(points)
        colour = colour + (1 / (1 + np.exp(-5 * dye))) * (colours[1] - colour)
    finish = SILK if rng.random() < 0.25 else WOOL
    thick = 0.62 * radius / np.sqrt(per) * rng.lognormal(0, 0.15, (len(points), 1))
    body = Strands(points, np.broadcast_to(thick, points.shape[:2]), np.clip(colour, 0, 0.97), finish)
    hairy = rng.uniform(0, 1) ** 1.5 if hairy is None else hairy
    fuzz = _fuzz(rng, body, radius, int(hairy * 9000))
    return [body] + ([fuzz] if fuzz is not None else [])


def _fuzz(rng: np.random.Generator, body: Strands, radius: float, count: int) -> Strands | None:
    """Single fibres that leave the yarn and end in the air."""
    if count < 10:
        return None
    n, m = body.points.shape[:2]
    i, j = rng.integers(n, size=count), rng.integers(1, m - 1, size=count)
    roots = body.points[i, j]
    tangent = unit(body.points[i, j + 1] - body.points[i, j - 1]) * rng.choice([-1, 1], (count, 1))
    heading = unit(0.6 * tangent + rng.normal(0, 0.6, (count, 3)))
    lengths = min(radius, 0.03) * rng.uniform(0.6, 2.2) * rng.lognormal(0, 0.5, count)
    curves = grown(rng, roots, heading, lengths, 9, bend=1.1)
    albedo = body.albedo[i, np.minimum(j, body.albedo.shape[1] - 1)][:, None]
    thin = min(float(np.median(body.radius)) * 0.4, 0.0025)
    return Strands(curves, np.full((count, 9), thin) * np.linspace(1, 0.5, 9), albedo, WOOL)


def _yarn_colours(rng: np.random.Generator) -> list[np.ndarray]:
    return [any_colour(rng) for _ in range(int(rng.choice([1, 2, 3, 6], p=[0.45, 0.2, 0.15, 0.2])))]


def _striped(rng: np.random.Generator, rows: int, colours: list[np.ndarray]) -> np.ndarray:
    heights = rng.integers(1, 7, size=rows)
    index = np.repeat(rng.integers(len(colours), size=rows), heights)[:rows]
    return np.stack([colours[i] for i in index])


def _band(
    rng: np.random.Generator, kind: str, roots: np.ndarray, thick: float, colours: list[np.ndarray]
) -> list[Mesh]:
    """Object from which the cords hang."""
    colour = colours[-1] if rng.random() < 0.5 else any_colour(rng)
    if kind == "fringe":
        edge = resampled(roots[None, np.linspace(0, len(roots) - 1, 9).astype(int)], 60)
        return [
            tubes(
                edge,
                np.full((1, 60), rng.uniform(2, 5) * thick + 0.01),
                colour[None, None],
                12,
                Finish(0.05, 12, 0, 0, 4.0),
            )
        ]
    v, u = np.linspace(0, 1, 24)[:, None], np.linspace(0, 2 * np.pi, 49)
    wide = 0.2 if kind == "tassel" else 0.42
    r = wide * np.sqrt(np.maximum(1 - (2 * v - 1) ** 2, 0)) * (1 - 0.25 * (v < 0.3))
    vertices = np.stack([r * np.cos(u), r * np.sin(u), 0.62 + 0.35 * v + 0 * u], -1)
    ridges = 0.6 + 0.4 * np.abs(np.sin(40 * v + 0 * u))[..., None]
    albedo = (colour * ridges).reshape(-1, 3)
    return [Mesh(vertices.reshape(-1, 3), grid_faces(24, 49), albedo, Finish(0.05, 12, 0, 0, 4.0))]
