"""Grass, reeds and bamboo: blades and stalks that rise from the ground."""

import numpy as np

from data.rendering.colours import bark_colour, leaf_colour, varied
from data.rendering.curves import grown, ribbons, tubes, unit
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.plants import along, branched, drawn_leaf, leaves, stalks

UP = np.array([0.0, 0, 1])


def grass(rng: np.random.Generator) -> Model:
    """A tuft or a strip of meadow: blades of several kinds, some with ears or panicles."""
    colour = leaf_colour(rng)
    width, count = rng.uniform(0.15, 1.6), int(np.exp(rng.uniform(np.log(60), np.log(900))))
    meshes = [_blades(rng, count, width, colour, np.exp(rng.uniform(np.log(0.004), np.log(0.03))))]
    if rng.random() < 0.4:
        meshes.append(_blades(rng, count // 2, width, leaf_colour(rng), rng.uniform(0.003, 0.012)))
    strands = []
    if rng.random() < 0.6:
        ears, stems = _ears(rng, int(rng.integers(3, 40)), width)
        strands.append(ears)
        meshes.append(stems)
    if rng.random() < 0.3:
        strands.append(_fine(rng, int(rng.uniform(300, 3000)), width))
    return Model(strands, meshes, elevation=(-0.1, 0.6), rooted="bottom")


def plume(rng: np.random.Generator) -> Model:
    """Pampas grass, reed heads: feathery plumes of fine, drooping hairs on stalks."""
    n = int(rng.integers(1, 6))
    roots = np.concatenate([rng.normal(0, 0.15, (n, 2)), np.full((n, 1), -1.0)], axis=1)
    heading = UP + rng.normal(0, 0.2, (n, 3))
    wind = rng.normal(0, 0.5, 3) * [1, 1, 0]
    stems = grown(rng, roots, heading, rng.uniform(1.5, 2.2, n), 40, pull=wind - 0.3 * UP, bend=0.2)
    colour = bark_colour(rng) ** 0.6 if rng.random() < 0.7 else leaf_colour(rng)
    twigs, _ = branched(
        rng, stems, int(rng.uniform(120, 240)), rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.5), 12,
        wind - rng.uniform(0.3, 2) * UP, 0.4, start=rng.uniform(0.45, 0.65),
    )  # fmt: skip
    hairs, _ = branched(rng, twigs, int(rng.uniform(14, 30)), 0.5, rng.uniform(0.06, 0.16), 8, wind, 0.6, start=0.1)
    soft = Finish(0.08, 40, 0.2, 0.9, 0.7)
    albedo = varied(rng, np.clip(colour, 0, 0.9), len(hairs), 0.15)[:, None]
    taper = np.linspace(1, 0.3, 8)[None]
    strands = [
        Strands(hairs, np.full(len(hairs), rng.uniform(0.0007, 0.0017))[:, None] * taper, albedo, soft),
        Strands(twigs, np.full(twigs.shape[:2], 0.0025), np.clip(colour, 0, 0.9)[None, None], soft),
    ]
    blades = _blades(rng, int(rng.uniform(0, 60)), 0.2, leaf_colour(rng), 0.012) if rng.random() < 0.5 else None
    return Model(
        strands, [stalks(rng, stems, np.full(n, 0.012), colour)] + ([blades] if blades else []), rooted="bottom"
    )


def bamboo(rng: np.random.Generator) -> Model:
    """Bamboo: jointed culms, thin branches and fans of lanceolate leaves."""
    n = int(rng.integers(1, 7))
    roots = np.concatenate([rng.normal(0, 0.35, (n, 2)), np.full((n, 1), -1.3)], axis=1)
    culms = grown(rng, roots, UP + rng.normal(0, 0.08, (n, 3)), rng.uniform(2.0, 2.8, n), 61, bend=0.25)
    joints = (np.arange(61) % 10 == 0).astype(float)
    thickness = rng.uniform(0.015, 0.06)
    radius = thickness * (1 - 0.5 * np.linspace(0, 1, 61)) * (1 + 0.16 * joints)
    culm_colour = leaf_colour(rng) * 0.9 + 0.1 * bark_colour(rng)
    albedo = culm_colour * (1 - 0.45 * np.roll(joints, 1) + 0.3 * joints)[:, None]
    shine = Finish(0.25, 40, 0.0, 0.0, 4.0)
    poles = tubes(culms, np.tile(radius, (n, 1)), np.clip(albedo, 0, 0.95)[None], 12, shine)
    twigs, _ = branched(
        rng, culms, int(rng.integers(10, 26)), 0.8, rng.uniform(0.5, 1.0), 14, np.array([0, 0, -0.6]), 0.4
    )
    leaf = drawn_leaf(rng, rng.uniform(0.05, 0.12), lobed=0.0)
    bases, tangents, _ = along(twigs, int(rng.integers(4, 9)), 0.35)
    keep = rng.random(len(bases)) < 0.85
    heading = unit(tangents[keep] + rng.normal(0, 0.7, (int(keep.sum()), 3)) + [0, 0, -0.3])
    colours = varied(rng, leaf_colour(rng), len(heading), 0.2)
    size = rng.uniform(0.18, 0.4) * rng.lognormal(0, 0.25, len(heading))
    blades = leaves(rng, leaf, bases[keep], heading, UP, size, colours)
    thin = stalks(rng, twigs, np.full(len(twigs), 0.12 * thickness + 0.002), culm_colour, sides=5)
    return Model([], [poles, thin, blades], elevation=(-0.4, 0.5), rooted="bottom")


def _blades(rng: np.random.Generator, count: int, spread: float, colour: np.ndarray, width: float) -> Mesh:
    m = 14
    roots = np.concatenate([rng.normal(0, spread / 2, (count, 2)) * [1, 0.4], np.full((count, 1), -1.0)], axis=1)
    heading = UP + rng.normal(0, rng.uniform(0.1, 0.45), (count, 3)) + 0.4 * roots * [1, 1, 0]
    lengths = rng.uniform(0.7, 1.7) * rng.lognormal(-0.1, 0.3, count)
    wind = rng.normal(0, 0.6, 3) * [1, 1, 0]
    curves = grown(rng, roots, heading, lengths, m, wind - rng.uniform(0.2, 2.2) * UP, bend=rng.uniform(0.2, 0.9))
    s = np.linspace(0, 1, m)
    half = width * rng.lognormal(0, 0.25, (count, 1)) * (0.55 + 0.9 * s) * np.sqrt(np.maximum(1 - s**3, 0.002))
    albedo = varied(rng, colour, count, 0.22)[:, None, None] * (0.55 + 0.6 * s)[None, :, None, None]
    albedo = albedo * np.array([1.1, 1.2, 1])[None, None, :, None] ** rng.choice([-1, 1])  # a light or dark midrib
    dry = (rng.random((count, 1, 1, 1)) < rng.uniform(0, 0.3)) * s[None, :, None, None] ** 2
    albedo = albedo + dry * (bark_colour(rng) - albedo)
    side = rng.normal(size=(count, 3))
    finish = Finish(rng.uniform(0.02, 0.2), rng.uniform(10, 40), 0.2, rng.uniform(0.4, 0.9), 1.2)
    return ribbons(curves, side, half, np.clip(albedo, 0, 0.95), finish, 3, rng.uniform(0.1, 0.6, count))


def _fine(rng: np.random.Generator, count: int, spread: float) -> Strands:
    m = 14
    roots = np.concatenate([rng.normal(0, spread / 2, (count, 2)) * [1, 0.5], np.full((count, 1), -1.0)], axis=1)
    heading = UP + rng.normal(0, 0.25, (count, 3)) + 0.3 * roots * [1, 1, 0]
    curves = grown(rng, roots, heading, rng.uniform(0.5, 1.8) * rng.lognormal(-0.1, 0.25, count), m, bend=0.6)
    radius = rng.uniform(0.002, 0.004) * np.linspace(1, 0.25, m)[None] * rng.lognormal(0, 0.2, (count, 1))
    return Strands(curves, radius, varied(rng, leaf_colour(rng), count, 0.2)[:, None], Finish(0.06, 25, 0.2, 0.5, 1.0))


def _ears(rng: np.random.Generator, count: int, spread: float) -> tuple[Strands, Mesh]:
    """Stems with ears (wheat, barley, foxtail) or loose panicles."""
    roots = np.concatenate([rng.normal(0, spread / 2, (count, 2)) * [1, 0.4], np.full((count, 1), -1.0)], axis=1)
    heading = UP + rng.normal(0, 0.12, (count, 3))
    stems = grown(
        rng, roots, heading, rng.uniform(1.2, 2.1, count), 40, np.array([0, 0, -rng.uniform(0, 0.5)]), bend=0.35
    )
    colour = bark_colour(rng) ** 0.7 if rng.random() < 0.6 else leaf_colour(rng)
    loose = rng.random() < 0.4
    start = rng.uniform(0.7, 0.9)
    angle, length = (0.9, rng.uniform(0.1, 0.3)) if loose else (rng.uniform(0.15, 0.5), rng.uniform(0.05, 0.28))
    per = int(rng.uniform(20, 50) if loose else rng.uniform(60, 160))
    awns, _ = branched(rng, stems, per, angle, length, 8, np.array([0, 0, -0.5 * loose]), 0.3, start=start)
    s = np.linspace(0, 1, 8)
    grain = 0.008 * np.exp(-(((s - (0.95 if loose else 0.12)) / 0.1) ** 2)) + 0.0022 * (1 - 0.6 * s)
    radius = grain[None] * rng.lognormal(0, 0.2, (len(awns), 1))
    albedo = varied(rng, np.clip(colour, 0, 0.9), len(awns), 0.15)[:, None]
    return Strands(awns, radius, albedo, Finish(0.08, 30, 0.2, 0.6, 1.0)), stalks(
        rng, stems, np.full(count, 0.007), colour, 5
    )
