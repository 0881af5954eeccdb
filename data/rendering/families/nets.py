"""Nets, wire and lace: curves on lattices, flat, sagging or bent round into baskets and cages; spider webs."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, metal_colour, varied
from data.rendering.curves import (
    Field,
    grid_faces,
    helices,
    resampled,
    smooth_field,
    tubes,
)
from data.rendering.model import Finish, Mesh, Model, Strands

FRONT = np.array([0.0, 1.0, 0.0])


def net(rng: np.random.Generator) -> Model:
    """A knotted or woven net: fishing net, tennis net, hammock, string bag; it sags and wrinkles."""
    cells = int(rng.integers(7, 34))
    warp = _sagging(rng, rng.uniform(0.02, 0.3))
    lines = _lattice(rng, cells, str(rng.choice(["square", "diamond", "square"])), rng.uniform(0, 0.12))
    colour, twisted = any_colour(rng), rng.random() < 0.35
    radius = np.exp(rng.uniform(np.log(0.03), np.log(0.14))) / cells
    finish = Finish(rng.uniform(0, 0.15), rng.uniform(8, 40), 0.2, 0.2, 2.0)
    meshes, strands = [], []
    for curves in lines:
        bent = warp(curves)
        if twisted:
            strands.append(_twine(rng, bent, radius * 1.3, colour))
        else:
            meshes.append(tubes(bent, np.full(bent.shape[:2], radius), _worn(rng, bent, colour), 6, finish))
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
    lines = _lattice(rng, cells, kind, rng.uniform(0, 0.02))
    warp = _rolled(rng, rng.uniform(0.5, 2.5)) if rng.random() < 0.3 else _sagging(rng, rng.uniform(0, 0.08))
    radius = np.exp(rng.uniform(np.log(0.02), np.log(0.1))) / cells
    colour = metal_colour(rng)
    meshes = [
        tubes(warp(curves), np.full(curves.shape[:2], radius), _worn(rng, curves, colour), 6, _metal(rng))
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
    finish = Finish(0.06, 15, 0, 0, 4.0) if wicker else _metal(rng)
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
        tubes(turned(c), np.full(c.shape[:2], radius), _worn(rng, turned(c), colour), 7, finish)
        for c in (*posts, hoops)
    ]
    rim = np.stack(np.broadcast_arrays(u[None], np.zeros(1)[:, None], np.ones(1)[:, None]), -1)
    thick = radius * rng.uniform(1.5, 3)
    meshes.append(tubes(turned(rim), np.full((1, 181), thick), _worn(rng, turned(rim), colour), 10, finish))
    if rng.random() < 0.6:
        meshes.append(_floor(rng, low, height, colour, finish))
    if rng.random() < 0.3:
        meshes.append(_handle(rng, high, height, thick, colour, finish))
    return Model([], meshes, elevation=(-0.3, 0.7), closest=2.8)


def lace(rng: np.random.Generator) -> Model:
    """Lace and crochet: rosettes and loops of thread on a fine ground, edges scalloped; it hangs in folds."""
    colour = any_colour(rng) if rng.random() < 0.5 else np.clip(any_colour(rng) * 0.2 + 0.7, 0, 0.95)
    round_cloth = rng.random() < 0.5
    warp = _sagging(rng, rng.uniform(0.02, 0.35))
    parts = _doily(rng) if round_cloth else _lace_band(rng)
    thread = np.exp(rng.uniform(np.log(0.0045), np.log(0.012)))
    soft = Finish(0.04, 15, 0.2, 0.3, 1.5)
    strands = [_twine(rng, warp(c), thread * w, colour, plies=3, per=3) if rng.random() < 0.3 and c.shape[0] < 200
               else Strands(warp(c), np.full(c.shape[:2], thread * w), varied(rng, colour, len(c), 0.06)[:, None], soft)
               for c, w in parts]  # fmt: skip
    return Model(strands, [], facing=FRONT, spread=0.7, any_roll=True, closest=3)


def web(rng: np.random.Generator) -> Model:
    """A spider's orb web between twigs, sometimes with dew."""
    spokes, turns = int(rng.integers(12, 34)), int(rng.integers(10, 42))
    angle = np.sort(2 * np.pi * (np.arange(spokes) + rng.normal(0, 0.18, spokes)) / spokes)
    reach = rng.uniform(0.75, 1.15, spokes)
    hub = rng.normal(0, 0.08, 2)
    ends = np.stack([reach * np.cos(angle), np.zeros(spokes), reach * np.sin(angle)], -1)
    centre = np.array([hub[0], 0, hub[1]])
    t = np.linspace(0, 1, 24)[None, :, None]
    radials = centre + (ends - centre)[:, None] * t
    steps = np.arange(turns * spokes + 1)
    at = 0.1 + 0.83 * steps / len(steps) + 0.006 * rng.normal(size=len(steps)).cumsum() / np.sqrt(len(steps))
    corner = centre + (ends[steps % spokes] - centre) * at[:, None]
    a, b = corner[:-1], corner[1:]
    kept = rng.random(len(a)) > rng.uniform(0, 0.12)
    s = np.linspace(0, 1, 7)[None, :, None]
    sag = (0.06 * np.linalg.norm(b - a, axis=1))[:, None, None] * 4 * s * (1 - s)
    spiral = (a[:, None] + (b - a)[:, None] * s + sag * (centre - (a + b)[:, None] / 2) + sag * [0, 0, -0.3])[kept]
    warp = _sagging(rng, rng.uniform(0, 0.15))
    thread = np.exp(rng.uniform(np.log(0.0012), np.log(0.0045)))
    silk = Finish(0.5, 60, 0.3, 1.0, 0.3)
    colour = np.full(3, rng.uniform(0.5, 0.9))
    strands = [
        Strands(warp(radials), np.full(radials.shape[:2], 1.2 * thread), colour[None, None], silk),
        Strands(warp(spiral), np.full(spiral.shape[:2], thread), colour[None, None], silk),
    ]
    meshes = []
    if rng.random() < 0.5:
        meshes.append(_dew(rng, warp(spiral), thread))
    if rng.random() < 0.7:
        meshes += _twig_frame(rng, ends)
    return Model(strands, meshes, facing=FRONT, spread=0.6, any_roll=True, closest=3)


def _lattice(rng: np.random.Generator, cells: int, kind: str, jitter: float) -> list[np.ndarray]:
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


def _sagging(rng: np.random.Generator, depth: float) -> Field:
    """A warp of the plane y = 0: wrinkles, folds and a slight stretch."""
    coarse, fine = smooth_field(rng, rng.uniform(1, 3), 3), smooth_field(rng, rng.uniform(4, 9), 3)
    folds, pace = rng.uniform(0, 1) * (rng.random() < 0.4), rng.uniform(4, 10)

    def warp(points: np.ndarray) -> np.ndarray:
        moved = depth * (coarse(points) * [0.3, 1, 0.3] + 0.2 * fine(points) * [0.4, 1, 0.4])
        moved[..., 1] += depth * folds * np.sin(pace * points[..., 0])
        return points + moved

    return warp


def _rolled(rng: np.random.Generator, angle: float) -> Field:
    """A warp that bends x round an upright axis by `angle` in all."""
    radius = 2 / angle

    def warp(points: np.ndarray) -> np.ndarray:
        a = points[..., 0] / radius
        r = radius + points[..., 1]
        return np.stack([r * np.sin(a), r * np.cos(a) - radius, points[..., 2]], -1)

    return warp


def _metal(rng: np.random.Generator) -> Finish:
    return Finish(rng.uniform(0.15, 0.9), rng.uniform(15, 120), 0.6, 0.0, 4.0)


def _worn(rng: np.random.Generator, curves: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Albedo (n, m, 3) of one colour with dirt, rust or fading."""
    stain = smooth_field(rng, rng.uniform(2, 8))(curves)
    rust = np.clip(stain - 0.9, 0, 1) * (rng.random() < 0.3)
    albedo = colour * np.exp(rng.uniform(0, 0.25) * stain)
    return np.clip(albedo + rust * (np.array([0.25, 0.09, 0.03]) - albedo), 0, 0.95)


def _twine(
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


def _knots(
    rng: np.random.Generator, lines: list[np.ndarray], warp: Field, radius: float, colour: np.ndarray, finish: Finish
) -> Mesh:
    at = lines[0][:, ::6].reshape(-1, 3) if len(lines) > 1 else lines[0][:, 3::6].reshape(-1, 3)
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 9), np.linspace(0, np.pi, 6))
    ball = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(-1, 3)
    lumps = ball[None] * radius * rng.lognormal(0, 0.2, (len(at), 1, 3))
    vertices = warp(at)[:, None] + lumps
    from data.rendering.curves import repeated_faces

    faces = repeated_faces(grid_faces(6, 9), 54, len(at))
    albedo = np.repeat(varied(rng, colour, len(at), 0.1), 54, axis=0)
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


def _doily(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Rings of petals, loops and spokes round a centre."""
    parts, t = [], np.linspace(0, 1, 400)
    radius = 0.12
    fold = int(rng.choice([6, 8, 10, 12, 16]))
    while radius < 1.0:
        width = rng.uniform(0.07, 0.2)
        kind = rng.choice(["loops", "petals", "spokes", "wave"])
        angle = 2 * np.pi * t
        if kind == "loops":
            k = fold * int(rng.integers(1, 4))
            a = angle + rng.uniform(0.3, 1.1) / k * np.sin(k * angle) * 2
            r = radius + width / 2 * (1 - np.cos(k * angle))
            parts.append((_polar(r, a)[None], 1.0))
        elif kind == "petals":
            for power in (1.0, 0.6):
                k = fold * int(rng.integers(1, 3))
                r = radius + width * power * np.abs(np.sin(k * angle / 2)) ** 0.7
                parts.append((_polar(r, angle)[None], 1.2))
        elif kind == "spokes":
            k = fold * int(rng.integers(2, 8))
            a = 2 * np.pi * np.arange(k)[:, None] / k
            r = np.linspace(radius, radius + width, 8)[None]
            parts.append((_polar(np.broadcast_to(r, (k, 8)), a + 0 * r), 0.8))
            parts.append((_polar(np.broadcast_to(r, (k, 8)), a + 2 * np.pi / k * (r - radius) / width), 0.8))
        else:
            k = fold * int(rng.integers(2, 6))
            for shift in (0, np.pi):
                parts.append((_polar(radius + width / 2 * (1 + np.sin(k * angle + shift)), angle)[None], 0.9))
        radius += width
        for gap in (0, 0.012):
            parts.append((_polar(np.full(400, radius + gap), angle)[None], 1.0))
    k = fold * 3
    parts.append((_polar(radius + 0.05 * np.abs(np.sin(k * np.pi * t)), 2 * np.pi * t)[None], 1.2))
    return parts


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), 0 * radius, radius * np.sin(angle)], -1)


def _lace_band(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """A fine ground with rows of flowers, and scalloped edges."""
    cells = int(rng.integers(24, 56))
    parts = [(c, 0.6) for c in _lattice(rng, cells, str(rng.choice(["square", "hexagon", "diamond"])), 0.1)]
    t = np.linspace(0, 1, 60)
    for _ in range(int(rng.integers(8, 40))):
        middle, size = rng.uniform(-0.9, 0.9, 2), rng.uniform(0.06, 0.22)
        petals = int(rng.integers(4, 9))
        for scale in (1.0, 0.75, 0.5, 0.3):
            flower = _polar(scale * size * (0.45 + 0.55 * np.abs(np.cos(petals * np.pi * t))), 2 * np.pi * t)
            parts.append(((flower + [middle[0], 0, middle[1]])[None], 1.1))
    scallops = int(rng.integers(6, 20))
    x = np.linspace(-1, 1, 300)
    for k in range(5):
        for sign in (1, -1):
            z = sign * (1 + 0.025 * k + 0.06 * np.abs(np.sin(scallops * np.pi * x / 2)))
            parts.append((np.stack([x, 0 * x, z], -1)[None], 1.2))
    return parts


def _dew(rng: np.random.Generator, threads: np.ndarray, thread: float) -> Mesh:
    from data.rendering.curves import repeated_faces

    chosen = threads.reshape(-1, 3)
    chosen = chosen[rng.random(len(chosen)) < rng.uniform(0.1, 0.7)]
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 9), np.linspace(0, np.pi, 6))
    ball = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(-1, 3)
    radius = thread * rng.uniform(1.5, 4) * rng.lognormal(0, 0.3, (len(chosen), 1, 1))
    vertices = chosen[:, None] + ball[None] * radius
    faces = repeated_faces(grid_faces(6, 9), 54, len(chosen))
    return Mesh(vertices.reshape(-1, 3), faces, np.full((len(chosen) * 54, 3), 0.6), Finish(1.0, 150, 0, 0.5, 0.5))


def _twig_frame(rng: np.random.Generator, ends: np.ndarray) -> list[Mesh]:
    """Bent sticks near the ends of the threads."""
    meshes = []
    for _ in range(int(rng.integers(1, 4))):
        a = rng.uniform(0, 2 * np.pi)
        out, across = np.array([np.cos(a), 0, np.sin(a)]), np.array([-np.sin(a), 0, np.cos(a)])
        knots = (
            rng.uniform(0.95, 1.15) * out + np.linspace(-1.3, 1.3, 6)[:, None] * across + rng.normal(0, 0.07, (6, 3))
        )
        curve = resampled(knots[None], 50)
        thick = rng.uniform(0.02, 0.06) * np.linspace(1, 0.5, 50)[None]
        meshes.append(tubes(curve, thick, _worn(rng, curve, bark_colour(rng)), 9, Finish(0.03, 10, 0, 0, 4.0)))
    return meshes
