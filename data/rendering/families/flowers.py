"""Flowers: rays round a disc, cups of overlapping petals, bells and stars, umbels, thistles, seed heads."""

from dataclasses import replace

import numpy as np

from data.rendering.colours import bark_colour, hsv, leaf_colour, petal_colour, varied
from data.rendering.curves import facing, grid_faces, grown, repeated_faces, unit
from data.rendering.model import Finish, Mesh, Model, Strands, joined
from data.rendering.plants import Leaf, along, branched, drawn_leaf, leaves, stalks, stations

UP = np.array([0.0, 0, 1])
GOLDEN = 2.39996


def flower(rng: np.random.Generator) -> Model:
    """One to a dozen flowers of a kind on stems, with leaves: daisies, gerberas, tulips, roses, lilies, anemones."""
    n = int(rng.choice([1, int(rng.integers(2, 5)), int(rng.integers(5, 14))], p=[0.45, 0.3, 0.25]))
    heads, heading, _, meshes = _stems(rng, n)
    size = (0.75 if n == 1 else 0.42 if n < 5 else 0.27) * rng.lognormal(0, 0.15, n)
    kind = rng.choice(["daisy", "cup", "star", "double"], p=[0.35, 0.25, 0.2, 0.2])
    make = {"daisy": _daisy, "cup": _cup, "star": _star, "double": _double}[kind]
    flower_meshes, strands = make(rng, heads, heading, size)
    return Model(
        strands, meshes + flower_meshes, elevation=(-0.1, 1.35 if n == 1 else 0.8), rooted="bottom" if n > 1 else None
    )


def umbel(rng: np.random.Generator) -> Model:
    """Many small flowers: umbels, hydrangeas, lilac, lavender, statice."""
    n = int(rng.integers(1, 7))
    heads, heading, stems, meshes = _stems(rng, n)
    spike = rng.random() < 0.45
    count = int(rng.integers(40, 220))
    if spike:
        rays, _ = branched(
            rng,
            stems,
            count,
            rng.uniform(0.7, 1.4),
            rng.uniform(0.08, 0.22),
            6,
            np.zeros(3),
            0.3,
            start=rng.uniform(0.45, 0.7),
        )
    else:
        spread = rng.uniform(0.5, 1.5)
        k = np.arange(count)
        polar, turn = spread * np.sqrt((k + 0.5) / count), GOLDEN * k
        local = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
        basis = facing(heading, UP + 0.01)[..., [0, 2, 1]]
        direction = np.einsum("nij,kj->nki", basis, local).reshape(-1, 3)
        reach = rng.uniform(0.22, 0.45) * rng.lognormal(0, 0.06, len(direction))
        rays = grown(rng, np.repeat(heads, count, axis=0), direction, reach, 8, np.array([0, 0, 0.4]), bend=0.25)
    meshes.append(stalks(rng, rays, np.full(len(rays), 0.004), leaf_colour(rng), 4))
    tips, normal = rays[:, -1], unit(rays[:, -1] - rays[:, -2])
    petals = int(rng.choice([4, 5, 5, 6]))
    size = rng.uniform(0.03, 0.085)
    colour = petal_colour(rng)
    petal = _petal(rng, rng.uniform(0.25, 0.5), points=6, across=3)
    meshes.append(
        _whorl(
            rng,
            petal,
            tips,
            normal,
            np.full(len(tips), size),
            petals,
            rng.uniform(0.1, 0.9),
            varied(rng, colour, len(tips), 0.1),
        )
    )
    dots = Strands(
        np.stack([tips, tips + 0.25 * size * normal], 1),
        np.full((len(tips), 2), 0.12 * size),
        hsv(0.14, rng.uniform(0, 0.9), 0.85)[None, None],
    )
    return Model([dots], meshes, elevation=(-0.2, 1.0), rooted="bottom")


def thistle(rng: np.random.Generator) -> Model:
    """Heads of many threads: thistle, knapweed, globe artichoke, mimosa, powder puff, chestnut burr."""
    n = int(rng.integers(1, 6))
    heads, heading, _, meshes = _stems(rng, n)
    size = (0.5 if n == 1 else 0.32) * rng.lognormal(0, 0.12, n)
    ball = rng.random() < 0.35
    per = int(rng.uniform(250, 1400))
    turn, t = GOLDEN * np.arange(per), (np.arange(per) + 0.5) / per
    polar = (np.arccos(1 - 1.9 * t) if ball else rng.uniform(0.3, 1.2) * np.sqrt(t))[:, None]
    local = np.concatenate(
        [np.sin(polar) * np.cos(turn)[:, None], np.sin(polar) * np.sin(turn)[:, None], np.cos(polar)], 1
    )
    basis = facing(heading, UP + 0.01)[..., [0, 2, 1]]
    direction = np.einsum("nij,kj->nki", basis, local) + rng.normal(0, 0.12, (n, per, 3))
    base = heads[:, None] + size[:, None, None] * (0.18 * unit(direction) + (0 if ball else 0.25) * heading[:, None])
    lengths = (size[:, None] * rng.lognormal(-0.35, 0.12, (n, per))).reshape(-1)
    threads = grown(rng, base.reshape(-1, 3), direction.reshape(-1, 3), lengths, 10, bend=rng.uniform(0.1, 0.9))
    root, tip = petal_colour(rng), petal_colour(rng)
    s = np.linspace(0, 1, 10)[None, :, None]
    albedo = np.clip(varied(rng, np.ones(3), len(threads), 0.15)[:, None] * (root + (tip - root) * s**1.5), 0, 0.96)
    thin = rng.uniform(0.002, 0.0055) * np.concatenate(
        [np.linspace(1, 0.7, 8), [1.2, 1.0] if rng.random() < 0.4 else [0.5, 0.3]]
    )
    strands = [Strands(threads, np.tile(thin, (len(threads), 1)), albedo, Finish(0.06, 30, 0.2, 0.6, 0.9))]
    if not ball:
        bract = replace(drawn_leaf(rng, rng.uniform(0.15, 0.3), lobed=0.3), droop=-0.6, fold=0.3)
        meshes.append(_scales(rng, bract, heads, heading, size))
    return Model(strands, meshes, elevation=(-0.2, 0.9), rooted="bottom" if rng.random() < 0.5 else None)


def seed_head(rng: np.random.Generator) -> Model:
    """Dandelion clocks, clematis and pasque flowers in seed: plumes of hairs on thin stalks, some blown off."""
    n = int(rng.integers(1, 4))
    heads, heading, _, meshes = _stems(rng, n)
    size = (0.62 if n == 1 else 0.36) * rng.lognormal(0, 0.1, n)
    per, hairs = int(rng.uniform(70, 190)), int(rng.uniform(14, 38))
    turn, t = GOLDEN * np.arange(per), (np.arange(per) + 0.5) / per
    polar = np.arccos(1 - rng.uniform(1.3, 1.9) * t)
    local = np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], -1)
    basis = facing(heading, UP + 0.01)[..., [0, 2, 1]]
    direction = unit(np.einsum("nij,kj->nki", basis, local) + rng.normal(0, 0.05, (n, per, 3)))
    blown = rng.random((n, per)) < rng.uniform(0, 0.5) * (rng.random() < 0.5)
    start = heads[:, None] + 0.08 * size[:, None, None] * direction
    stalk = np.stack([start + size[:, None, None] * s * direction for s in np.linspace(0.0, 0.62, 5)], 2)[~blown]
    out = direction[~blown]
    scale = np.repeat(size, per).reshape(n, per)[~blown]
    tips = stalk[:, -1]
    k = len(tips)
    cone = rng.uniform(0.5, 1.35)
    side = unit(np.cross(out[:, None], rng.normal(size=(k, hairs, 3))))
    fan = np.cos(cone) * out[:, None] + np.sin(cone) * side + rng.normal(0, 0.08, (k, hairs, 3))
    reach = (scale[:, None] * rng.uniform(0.22, 0.36) * rng.lognormal(0, 0.1, (k, hairs))).reshape(-1)
    plume = grown(rng, np.repeat(tips, hairs, axis=0), fan.reshape(-1, 3), reach, 6, bend=0.25)
    pale = np.clip(hsv(rng.uniform(0.05, 0.16), rng.uniform(0, 0.25), rng.uniform(0.75, 0.97)), 0, 0.95)
    silk = Finish(0.25, 40, 0.3, 1.0, 0.35)
    thin = rng.uniform(0.0010, 0.0022)
    seeds = Strands(stalk[:, :2], np.full((k, 2), 0.012 * size.mean() / 0.5), bark_colour(rng)[None, None])
    strands = [
        Strands(plume, np.full((len(plume), 6), thin) * np.linspace(1, 0.6, 6), pale[None, None], silk),
        Strands(stalk, np.full((k, 5), 1.4 * thin), 0.8 * pale[None, None], silk),
        seeds,
    ]
    receptacle = _disc(heads, heading, 0.1 * size, leaf_colour(rng) * 0.7)
    return Model(strands, [*meshes, receptacle], elevation=(-0.3, 0.8))


def _stems(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Mesh]]:
    """Flower places (n, 3), directions (n, 3), stems, and the meshes of stems and leaves."""
    spread = 0.0 if n == 1 else 0.12
    roots = np.concatenate([rng.normal(0, spread, (n, 2)), np.full((n, 1), -1.5)], axis=1)
    lean = UP + rng.normal(0, 0.1 if n == 1 else 0.33, (n, 3)) * [1, 1, 0]
    stems = grown(rng, roots, lean, rng.uniform(1.2, 1.9, n), 30, rng.normal(0, 0.4, 3) * [1, 1, 0], bend=0.35)
    heading = unit(unit(stems[:, -1] - stems[:, -2]) + rng.normal(0, rng.uniform(0.1, 0.7), (n, 3)))
    green = leaf_colour(rng)
    meshes = [stalks(rng, stems, np.full(n, rng.uniform(0.01, 0.028)), green * 0.9, 8, taper=0.35)]
    if rng.random() < 0.65:
        leaf = drawn_leaf(rng, np.exp(rng.uniform(np.log(0.06), np.log(0.35))), lobed=0.35)
        bases, tangents, normals = along(stems, int(rng.integers(2, 7)), 0.15, 0.75)
        turn = rng.uniform(0, 6.28, len(bases))[:, None]
        out = np.cos(turn) * normals + np.sin(turn) * np.cross(tangents, normals) + rng.uniform(0.3, 1.2) * tangents
        size = rng.uniform(0.25, 0.7) * rng.lognormal(0, 0.2, len(bases))
        meshes.append(
            leaves(
                rng,
                leaf,
                bases,
                out,
                UP + rng.normal(0, 0.3, (len(bases), 3)),
                size,
                varied(rng, green, len(bases), 0.15),
            )
        )
    return stems[:, -1], heading, stems, meshes


def _petal(rng: np.random.Generator, aspect: float, points: int = 18, across: int = 9) -> Leaf:
    """A petal: widest beyond the middle, rounded or pointed, thin."""
    s = stations(points)
    profile = np.maximum(s + 0.06, 1e-3) ** rng.uniform(0.4, 1.3) * np.maximum(1 - s, 1e-4) ** rng.uniform(0.22, 0.8)
    return Leaf(
        aspect, profile / profile.max() + 0.01, rng.normal(0.15, 0.2), rng.normal(0.2, 0.5), rng.uniform(0, 0.3),
        across,
        Finish(rng.uniform(0, 0.12), rng.uniform(8, 30), 0.3, rng.uniform(0.5, 1.0), 1.0),
        rng.normal(0, 0.12), rng.uniform(0.2, 0.9) if rng.random() < 0.4 else 0.0, petal_colour(rng),
    )  # fmt: skip


def _whorl(
    rng: np.random.Generator, petal: Leaf, heads: np.ndarray, heading: np.ndarray, size: np.ndarray, count: int,
    rise: float, colours: np.ndarray, turn: float = 0.0, inner: float = 0.0, jitter: float = 0.08,
) -> Mesh:  # fmt: skip
    """`count` petals round each head, raised by `rise` radians towards the axis, starting `inner` from it."""
    n = len(heads)
    first = unit(np.cross(heading, [0.3, 0.5, 0.81]))
    second = np.cross(heading, first)
    a = turn + 2 * np.pi * np.arange(count)[None] / count + rng.normal(0, jitter, (n, count))
    out = np.cos(a)[..., None] * first[:, None] + np.sin(a)[..., None] * second[:, None]
    up = rise + rng.normal(0, jitter, (n, count, 1))
    direction = np.cos(up) * out + np.sin(up) * heading[:, None]
    upper = np.cos(up) * heading[:, None] - np.sin(up) * out
    base = heads[:, None] + inner * size[:, None, None] * out
    lengths = size[:, None] * rng.lognormal(0, 0.07, (n, count))
    tint = np.clip(np.repeat(colours, count, axis=0) * rng.lognormal(0, 0.07, (n * count, 1)), 0, 0.97)
    return leaves(
        rng, petal, base.reshape(-1, 3), direction.reshape(-1, 3), upper.reshape(-1, 3), lengths.reshape(-1), tint
    )


def _daisy(rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, size: np.ndarray) -> tuple[list, list]:
    petal = _petal(rng, rng.uniform(0.07, 0.2))
    count, rows = int(rng.integers(11, 34)), int(rng.integers(1, 4))
    colour = varied(rng, petal_colour(rng), len(heads), 0.08)
    disc = rng.uniform(0.15, 0.42)
    rise = rng.uniform(-0.3, 0.7)
    meshes = [
        _whorl(rng, petal, heads - 0.02 * row * size[:, None] * heading, heading,
               size * (1 - disc) * (0.82 + 0.18 * row / rows), count, rise - 0.18 * row, colour,
               turn=0.5 * row / count, inner=0.8 * disc)
        for row in range(rows)
    ]  # fmt: skip
    brown = hsv(rng.uniform(0.06, 0.16), rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.9))
    meshes.append(_disc(heads + 0.02 * size[:, None] * heading, heading, disc * size, brown))
    return meshes, [_florets(rng, heads, heading, disc * size, brown)]


def _cup(rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, size: np.ndarray) -> tuple[list, list]:
    petal = replace(
        _petal(rng, rng.uniform(0.3, 0.5), 18, 9), fold=rng.uniform(0.15, 0.5), droop=-rng.uniform(0.1, 0.9)
    )
    count, rows, rise = int(rng.integers(3, 7)), int(rng.integers(1, 4)), rng.uniform(0.3, 1.3)
    colour = varied(rng, petal_colour(rng), len(heads), 0.1)
    meshes = [
        _whorl(rng, petal, heads, heading, size * (1 - 0.1 * row), count, rise + 0.2 * row, colour,
               np.pi * row / count, 0.05)
        for row in range(rows)
    ]  # fmt: skip
    return meshes, [_stamens(rng, heads, heading, size * rng.uniform(0.2, 0.5))]


def _star(rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, size: np.ndarray) -> tuple[list, list]:
    petal = replace(_petal(rng, rng.uniform(0.1, 0.24), 18, 7), droop=rng.uniform(0.2, 1.8))
    colour = varied(rng, petal_colour(rng), len(heads), 0.1)
    count = int(rng.choice([5, 6, 6, 8]))
    meshes = [_whorl(rng, petal, heads, heading, size, count, rng.uniform(0.2, 1.1), colour)]
    return meshes, [_stamens(rng, heads, heading, size * rng.uniform(0.5, 1.0))]


def _double(rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, size: np.ndarray) -> tuple[list, list]:
    """Roses, peonies, dahlias, carnations: whorl upon whorl, the inner ones steeper and shorter."""
    narrow = rng.random() < 0.5
    petal = _petal(rng, rng.uniform(0.12, 0.22) if narrow else rng.uniform(0.35, 0.6), 18, 7)
    petal = replace(petal, fold=rng.uniform(0.1, 0.5), droop=rng.normal(0.1, 0.5))
    rows, count = int(rng.integers(5, 11)), int(rng.integers(8, 18) if narrow else rng.integers(4, 8))
    colour = varied(rng, petal_colour(rng), len(heads), 0.1)
    low, high = rng.uniform(-0.1, 0.4), rng.uniform(1.2, 1.5)
    meshes = []
    for row in range(rows):
        t = row / (rows - 1)
        scale, shade = 1 - 0.6 * t, np.clip(colour * (1 - 0.25 * t), 0, 0.97)
        meshes.append(
            _whorl(
                rng, petal, heads, heading, size * scale, count, low + (high - low) * t, shade, GOLDEN * row, 0.04, 0.15
            )
        )
    return meshes, []


def _disc(
    heads: np.ndarray,
    heading: np.ndarray,
    radius: np.ndarray,
    colour: np.ndarray,
) -> Mesh:
    r, u = np.linspace(0, 1, 8)[:, None], np.linspace(0, 2 * np.pi, 33)
    dome = np.stack([r * np.cos(u), 0.45 * (1 - r**2) + 0 * u, r * np.sin(u)], -1).reshape(-1, 3)
    basis = facing(heading, UP + 0.01)
    vertices = np.einsum("nij,vj->nvi", basis, dome) * radius[:, None, None] + heads[:, None]
    faces = repeated_faces(grid_faces(8, 33), len(dome), len(heads))
    return Mesh(
        vertices.reshape(-1, 3), faces, np.tile(0.6 * colour, (len(heads) * len(dome), 1)), Finish(0, 10, 0, 0, 4.0)
    )


def _florets(
    rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, radius: np.ndarray, colour: np.ndarray
) -> Strands:
    """Short upright tubes in a spiral: the middle of a daisy."""
    per = int(rng.integers(120, 420))
    k = np.arange(per)
    r, turn = np.sqrt((k + 0.5) / per), GOLDEN * k
    local = np.stack([r * np.cos(turn), 0.45 * (1 - r**2), r * np.sin(turn)], -1)
    out = unit(np.stack([0.6 * r * np.cos(turn), np.ones(per), 0.6 * r * np.sin(turn)], -1))
    basis = facing(heading, UP + 0.01)
    base = np.einsum("nij,kj->nki", basis, local) * radius[:, None, None] + heads[:, None]
    up = np.einsum("nij,kj->nki", basis, out) * (radius * rng.uniform(0.1, 0.3))[:, None, None]
    lengths = rng.lognormal(0, 0.25, (len(heads), per, 1))
    points = np.stack([base + t * lengths * up for t in (0, 0.5, 0.8, 1)], 2).reshape(-1, 4, 3)
    wide = np.repeat(radius, per)[:, None] / np.sqrt(per) * np.array([0.7, 0.55, 0.7, 0.3])
    ring = np.clip(np.exp(rng.normal(0, 0.8) * (r - 0.5)), 0.3, 2)
    albedo = np.clip(colour * np.tile(ring, len(heads))[:, None] * rng.lognormal(0, 0.15, (len(points), 1)), 0, 0.95)
    return Strands(
        points,
        wide,
        albedo[:, None] * np.array([0.5, 0.8, 1.2, 1.3])[None, :, None].clip(0, 1.05),
        Finish(0.05, 15, 0.1, 0.2, 2.0),
    )


def _stamens(rng: np.random.Generator, heads: np.ndarray, heading: np.ndarray, length: np.ndarray) -> Strands:
    per = int(rng.choice([6, 12, 40, 90]))
    direction = np.repeat(heading, per, axis=0) + rng.normal(0, rng.uniform(0.15, 0.5), (per * len(heads), 3))
    lengths = np.repeat(length, per) * rng.lognormal(0, 0.15, len(direction))
    curves = grown(rng, np.repeat(heads, per, axis=0), direction, lengths, 14, bend=0.3)
    stalk = np.repeat(length, per)[:, None] * np.array([0.018] * 11 + [0.05, 0.055, 0.03])
    anther = hsv(rng.uniform(0.02, 0.17), rng.uniform(0.3, 0.95), rng.uniform(0.2, 0.95))
    albedo = np.concatenate([np.tile(np.clip(petal_colour(rng), 0, 0.9), (11, 1)), np.tile(anther, (3, 1))])
    return Strands(curves, stalk, albedo[None], Finish(0.08, 25, 0.2, 0.4, 1.0))


def _scales(rng: np.random.Generator, bract: Leaf, heads: np.ndarray, heading: np.ndarray, size: np.ndarray) -> Mesh:
    """Overlapping bracts that form the ball under a thistle's threads."""
    colour = np.repeat((leaf_colour(rng) if rng.random() < 0.7 else bark_colour(rng))[None], len(heads), 0)
    rows = [
        _whorl(rng, bract, heads - (0.12 - 0.07 * row) * size[:, None] * heading, heading, 0.42 * size, 12,
               0.35 + 0.16 * row, colour, 0.26 * row, inner=0.16 + 0.07 * np.sin(row * 0.7), jitter=0.06)
        for row in range(6)
    ]  # fmt: skip
    return joined(rows)
