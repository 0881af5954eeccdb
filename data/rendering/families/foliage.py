"""Leaves and twigs: broad-leaved branches, ferns, conifers, hanging vines, pot plants, bare twigs."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, leaf_colour, varied
from data.rendering.curves import grid_faces, grown, placed, resampled, smooth_field, unit
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.plants import BARK, along, branched, drawn_leaf, leaves, stalks

UP = np.array([0.0, 0, 1])


def branch(rng: np.random.Generator) -> Model:
    """A branch or a small tree with simple, toothed or lobed leaves; some have none."""
    trunks, twigs, shoots = _skeleton(rng)
    bark = bark_colour(rng)
    meshes = [
        stalks(rng, trunks, np.full(len(trunks), rng.uniform(0.015, 0.04)), bark, 9, BARK),
        stalks(rng, twigs, np.full(len(twigs), rng.uniform(0.006, 0.012)), bark, 6, BARK, 0.7),
        stalks(rng, shoots, np.full(len(shoots), rng.uniform(0.003, 0.006)), bark, 5, BARK, 0.7),
    ]
    if rng.random() < 0.12:  # bare in winter, with finer shoots instead
        fine, _ = branched(rng, shoots, 8, 0.7, 0.3, 8, np.zeros(3), 0.5)
        return Model([], [*meshes, stalks(rng, fine, np.full(len(fine), 0.003), bark, 4, BARK)], any_roll=True)
    size = np.exp(rng.uniform(np.log(0.07), np.log(0.3)))
    leaf = drawn_leaf(rng, np.exp(rng.uniform(np.log(0.12), np.log(0.48))))
    count = int(np.clip(rng.uniform(0.6, 1.6) * 0.9 / size, 3, 14))
    bases, tangents, normals = along(shoots, count, 0.15)
    tips, tip_tangents, tip_normals = along(twigs, 5, 0.5)
    bases, tangents = np.concatenate([bases, tips]), np.concatenate([tangents, tip_tangents])
    normals = np.concatenate([normals, tip_normals])
    kept = rng.random(len(bases)) < rng.uniform(0.55, 1)
    return Model(
        [], [*meshes, _hung(rng, leaf, bases[kept], tangents[kept], normals[kept], size)], any_roll=rng.random() < 0.4
    )


def fern(rng: np.random.Generator) -> Model:
    """Fronds, once or twice pinnate: ferns, palms, acacia, cycads."""
    n = int(rng.integers(1, 10))
    colour = leaf_colour(rng)
    roots = rng.normal(0, 0.04, (n, 3)) - [0, 0, 1]
    heading = UP + rng.normal(0, 0.55, (n, 3)) * [1, 1, 0.3]
    fronds = grown(
        rng, roots, heading, rng.uniform(1.4, 2.2, n), 40, np.array([0, 0, -rng.uniform(0.4, 2.2)]), bend=0.3
    )
    meshes = [stalks(rng, fronds, np.full(n, rng.uniform(0.01, 0.02)), colour * 0.8, 6)]
    pairs = int(rng.integers(26, 64))
    if rng.random() < 0.55:  # twice pinnate
        pinnae, _ = branched(
            rng, fronds, pairs, 1.1, rng.uniform(0.4, 0.7), 14, np.array([0, 0, -0.3]), 0.15, 0.18, True
        )
        meshes.append(stalks(rng, pinnae, np.full(len(pinnae), 0.004), colour * 0.8, 4))
        per, size, curves = int(rng.integers(12, 22)), rng.uniform(0.05, 0.09), pinnae
    else:
        per, size, curves = pairs, rng.uniform(0.25, 0.6), fronds
    leaf = drawn_leaf(rng, rng.uniform(0.06, 0.22), points=8, lobed=0.1)
    bases, tangents, _ = along(curves, per, 0.15)
    side = np.cross(tangents, UP + 0.05)
    sign = np.tile(np.where(np.arange(per) % 2, 1.0, -1.0), len(curves))[:, None]
    heading = unit(tangents * rng.uniform(0.3, 0.9) + unit(side) * sign + rng.normal(0, 0.08, bases.shape))
    taper = np.tile(np.sin(np.pi * (0.12 + 0.86 * np.linspace(0, 1, per))) ** 0.8, len(curves))
    colours = varied(rng, colour, len(bases), 0.12)
    meshes.append(
        leaves(rng, leaf, bases, heading, np.cross(side * sign, tangents) * sign + 0.4 * UP, size * taper, colours)
    )
    return Model([], meshes, elevation=(-0.2, 1.2), any_roll=rng.random() < 0.3)


def conifer(rng: np.random.Generator) -> Model:
    """A twig of pine, spruce or larch, or rosemary and heather: needles all round."""
    trunks, twigs, shoots = _skeleton(rng, gentle=True)
    bark, colour = bark_colour(rng), leaf_colour(rng) * rng.uniform(0.4, 1.0)
    length = np.exp(rng.uniform(np.log(0.05), np.log(0.35)))
    tufted = length > 0.15 and rng.random() < 0.6
    curves = np.concatenate([twigs, resampled(shoots, twigs.shape[1])])
    per = int(np.clip(34000 / len(curves) / (1 + 8 * length), 20, 130))
    needles, at = branched(
        rng,
        curves,
        per,
        rng.uniform(0.5, 1.1),
        length,
        6,
        np.array([0, 0, -0.4 * length]),
        0.2,
        start=0.55 if tufted else 0.05,
    )
    needles = needles[:, :1] + (needles - needles[:, :1]) * (1 / (1 - 0.7 * at))[:, None, None] * 0.8
    radius = rng.uniform(0.0035, 0.007) * np.array([1, 1, 1, 0.95, 0.8, 0.3])[None]
    albedo = varied(rng, colour, len(needles), 0.2)[:, None] * np.linspace(0.7, 1.2, 6)[None, :, None]
    strands = Strands(
        needles, np.tile(radius, (len(needles), 1)), np.clip(albedo, 0, 0.9), Finish(0.1, 30, 0.2, 0.3, 1.0)
    )
    meshes = [
        stalks(rng, trunks, np.full(len(trunks), rng.uniform(0.02, 0.04)), bark, 8, BARK),
        stalks(rng, twigs, np.full(len(twigs), 0.013), bark, 6, BARK),
        stalks(rng, shoots, np.full(len(shoots), 0.008), bark, 5, BARK),
    ]
    return Model([strands], meshes, any_roll=rng.random() < 0.5)


def vine(rng: np.random.Generator) -> Model:
    """Hanging or climbing shoots with heart-shaped or hand-shaped leaves: ivy, hops, maple, vines."""
    n = int(rng.integers(2, 14))
    roots = np.stack([rng.uniform(-0.9, 0.9, n), rng.normal(0, 0.15, n), rng.uniform(0.7, 1.1, n)], axis=1)
    shoots = grown(rng, roots, np.array([0, 0, -1.0]) + rng.normal(0, 0.7, (n, 3)), rng.uniform(0.9, 2.2, n), 30,
                   np.array([0, 0, -1.5]), bend=1.2)  # fmt: skip
    bases, _, normals = along(shoots, int(rng.integers(8, 22)), 0.05)
    size = rng.uniform(0.12, 0.32)
    stalk_heading = unit(normals + rng.normal(0, 0.7, normals.shape) + [0, 0, 0.3])
    petioles = grown(rng, bases, stalk_heading, size * rng.uniform(0.3, 0.9, len(bases)), 6, np.array([0, 0, -0.8]))
    stem = bark_colour(rng)
    meshes = [
        stalks(rng, shoots, np.full(n, rng.uniform(0.008, 0.018)), stem, 6),
        stalks(rng, petioles, np.full(len(petioles), 0.004), stem, 4),
        _palmate(rng, petioles[:, -1], unit(petioles[:, -1] - petioles[:, -2] + [0, 0, -0.8]), size),
    ]
    return Model([], meshes, elevation=(-0.3, 0.4), rooted="top")


def pot_plant(rng: np.random.Generator) -> Model:
    """A rosette of stems or strap leaves, often out of a pot: house plants, agaves, lettuces."""
    n = int(rng.integers(8, 60))
    turn = 2.4 * np.arange(n)
    rise = np.linspace(0.15, 1.4, n) + rng.normal(0, 0.1, n)
    heading = np.stack([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)], axis=1)
    bases = heading * [0.07, 0.07, 0.02] + [0, 0, -0.55]
    colour = leaf_colour(rng)
    meshes = []
    if rng.random() < 0.5:  # strap leaves from the heart
        leaf = drawn_leaf(rng, np.exp(rng.uniform(np.log(0.03), np.log(0.2))), points=18, lobed=0.1)
        size = rng.uniform(0.7, 1.4) * rng.lognormal(0, 0.15, n)
        meshes.append(leaves(rng, leaf, bases, heading, UP, size, varied(rng, colour, n, 0.15)))
    else:  # stalked leaves along stems
        stems = grown(
            rng,
            bases,
            heading + 0.5 * UP,
            rng.uniform(0.6, 1.4, n),
            24,
            np.array([0, 0, -rng.uniform(0, 1.5)]),
            bend=0.4,
        )
        meshes.append(stalks(rng, stems, np.full(n, rng.uniform(0.006, 0.014)), colour * 0.8, 6))
        size = rng.uniform(0.1, 0.4)
        leaf = drawn_leaf(rng, rng.uniform(0.12, 0.5))
        at, tangents, normals = along(stems, int(np.clip(1.6 / size, 3, 12)), 0.3)
        meshes.append(_hung(rng, leaf, at, tangents, normals, size, colour))
    if rng.random() < 0.65:
        meshes.append(_pot(rng))
    return Model([], meshes, elevation=(-0.1, 1.0), rooted="bottom")


def _skeleton(rng: np.random.Generator, gentle: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trunk, twigs and shoots as curves (n, m, 3)."""
    n = int(rng.integers(1, 4))
    roots = rng.normal(0, 0.08, (n, 3)) - [0, 0, 1.1]
    lean = UP + rng.normal(0, 0.5, (n, 3)) * [1, 1, 0.2]
    pull = np.array([0, 0, rng.uniform(-1.2, 0.5)])
    trunks = grown(rng, roots, lean, rng.uniform(1.6, 2.4, n), 30, pull, bend=0.4)
    angle = rng.uniform(0.5, 1.1)
    flat = gentle and rng.random() < 0.5
    twigs, _ = branched(rng, trunks, int(rng.integers(7, 16)), angle, rng.uniform(0.7, 1.3), 18, pull, 0.5, 0.2, flat)
    shoots, _ = branched(rng, twigs, int(rng.integers(3, 9)), angle, rng.uniform(0.25, 0.5), 10, pull, 0.4, 0.2, flat)
    return trunks, twigs, shoots


def _hung(
    rng: np.random.Generator, leaf, bases: np.ndarray, tangents: np.ndarray, normals: np.ndarray, size: float,
    colour: np.ndarray | None = None,
) -> Mesh:  # fmt: skip
    """Leaves that spread from shoots, turn their upper sides to the sky and differ in age and colour."""
    n = len(bases)
    turn = rng.uniform(0, 2 * np.pi, n)[:, None]
    around = np.cos(turn) * normals + np.sin(turn) * np.cross(tangents, normals)
    heading = unit(
        around + rng.uniform(0.2, 1.0) * tangents + [0, 0, rng.normal(-0.2, 0.3)] + rng.normal(0, 0.2, (n, 3))
    )
    base = leaf_colour(rng) if colour is None else colour
    colours = varied(rng, base, n, rng.uniform(0.1, 0.3))
    if rng.random() < 0.3:  # other leaves among them: young, autumnal
        colours = np.where(rng.random((n, 1)) < rng.uniform(0.1, 0.6), varied(rng, leaf_colour(rng), n, 0.2), colours)
    ups = UP + rng.normal(0, rng.uniform(0.2, 0.7), (n, 3))
    return leaves(rng, leaf, bases, heading, ups, size * rng.lognormal(-0.1, 0.3, n), colours)


def _palmate(rng: np.random.Generator, bases: np.ndarray, heading: np.ndarray, size: float) -> Mesh:
    """Hand-shaped leaves: a polar outline with 3 to 9 points, cupped and veined."""
    rings, spokes = 6, 73
    angle = np.linspace(-np.pi, np.pi, spokes)
    points, sharp = int(rng.choice([3, 5, 5, 7, 9])), rng.uniform(0.15, 0.8)
    lobe = np.abs(np.cos(angle * points / 2 * 0.86))
    outline = (1 - 0.25 * np.abs(angle / np.pi)) * (1 - sharp * (1 - lobe ** rng.uniform(0.7, 1.6)))
    outline *= 1 + rng.uniform(0, 0.12) * np.abs((angle * 11) % 2 - 1)
    outline *= np.clip((np.pi - np.abs(angle)) / 0.35, 0.08, 1) ** 0.6  # the notch at the stalk
    r = np.linspace(0, 1, rings)[:, None]
    x, y = r * outline * np.sin(angle), r * outline * np.cos(angle)
    z = rng.normal(0, 0.25) * (x**2 + y**2) + 0.06 * np.cos(points * angle) * r**2
    vertices = np.stack([x, y + 0.25, z], -1).reshape(-1, 3)
    vein = np.exp(rng.normal(0.2, 0.25) * lobe**14 * (1 - 0.4 * r) + 0 * x).reshape(-1, 1)
    finish = Finish(rng.uniform(0.02, 0.25), rng.uniform(10, 60), 0.0, rng.uniform(0.4, 0.9), 1.4)
    one = Mesh(vertices, grid_faces(rings, spokes), np.repeat(vein, 3, axis=1), finish)
    n = len(bases)
    y_axis = unit(heading + rng.normal(0, 0.35, (n, 3)))
    z_axis = rng.normal(0, 0.7, (n, 3)) + 0.6 * UP
    x_axis = unit(np.cross(y_axis, z_axis))
    matrices = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)], axis=-1)
    sizes = size * rng.lognormal(0, 0.3, (n, 1, 1))
    colour = leaf_colour(rng)
    colours = varied(rng, colour, n, 0.2)
    if rng.random() < 0.3:
        colours = np.where(rng.random((n, 1)) < 0.5, varied(rng, leaf_colour(rng), n, 0.2), colours)
    mesh = placed(one, matrices * sizes, bases, colours[:, None])
    return Mesh(mesh.vertices, mesh.faces, np.clip(mesh.albedo, 0, 0.95), finish)


def _pot(rng: np.random.Generator) -> Mesh:
    """A turned pot with a rim, of clay or glazed."""
    v = np.linspace(0, 1, 40)
    low, high = rng.uniform(0.2, 0.35), rng.uniform(0.35, 0.5)
    radius = low + (high - low) * v ** rng.uniform(0.6, 1.6) + 0.03 * (v > 0.82)
    radius[-1] *= 0.85
    u = np.linspace(0, 2 * np.pi, 73)
    height = rng.uniform(0.4, 0.7)
    vertices = np.stack(
        [radius[:, None] * np.cos(u), radius[:, None] * np.sin(u), (-0.5 - height * (1 - v))[:, None] + 0 * u], -1
    )
    clay = np.array([0.45, 0.17, 0.08]) if rng.random() < 0.4 else any_colour(rng)
    mottle = np.exp(0.12 * smooth_field(rng, 9)(vertices) + 0.05 * smooth_field(rng, 40)(vertices))
    albedo = np.clip(clay * mottle, 0, 0.95).reshape(-1, 3)
    return Mesh(
        vertices.reshape(-1, 3),
        grid_faces(40, 73),
        albedo,
        Finish(rng.uniform(0, 0.3), rng.uniform(10, 90), 0.0, 0.0, 5.0),
    )
