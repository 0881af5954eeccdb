"""Fur and plush: animals and soft toys of joined ellipsoids, covered with clumped, combed strands."""

import numpy as np
from scipy.spatial import cKDTree

from data.rendering.colours import any_colour, hair_colour, hsv, pattern, varied
from data.rendering.curves import Field, smooth_field, sphere, unit, vertex_normals
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.solids import Implicit, ellipsoids, meshed, outwards, scattered, surface_area

MOST = 44000  # strands of one coat
COVER = 3.0  # how many times the strands of a coat, laid flat, cover the body at least


def fur(rng: np.random.Generator) -> Model:
    """An animal, or part of one, with a coat of 3 to 30 % of its size."""
    vertices, faces = _body(rng)
    length = np.exp(rng.uniform(np.log(0.06), np.log(0.45)))
    colours = [hair_colour(rng, 0.08) for _ in range(3)]
    albedo = pattern(rng, colours, size=2.0)
    strands = coat(
        rng,
        vertices,
        faces,
        albedo,
        count=int(rng.uniform(26000, MOST)),
        length=length,
        radius=rng.uniform(0.0017, 0.0042) * (0.7 + length),
        lean=rng.uniform(0.3, 1.6),
        gravity=rng.uniform(0, 0.9) * min(1, length / 0.2),
        clump=rng.uniform(0.1, 0.8),
        per_clump=int(np.exp(rng.uniform(np.log(12), np.log(120)))),
        frizz=rng.uniform(0.02, 0.35),
        curl=rng.uniform(0.3, 1.0) if rng.random() < 0.15 else 0.0,
    )
    return Model(strands, [_skin(vertices, faces, albedo), *_eyes(rng, vertices, faces, length)])


def plush(rng: np.random.Generator) -> Model:
    """A soft toy: a short, dense, upright pile of one or two colours."""
    vertices, faces = _body(rng)
    length = np.exp(rng.uniform(np.log(0.015), np.log(0.09)))
    albedo = pattern(rng, [any_colour(rng) for _ in range(3)], size=2.0, plain=0.55)
    strands = coat(
        rng,
        vertices,
        faces,
        albedo,
        count=MOST,
        length=length,
        radius=rng.uniform(0.003, 0.006),
        lean=rng.uniform(0.1, 0.9),
        gravity=0.0,
        clump=rng.uniform(0.0, 0.7),
        per_clump=int(rng.uniform(10, 60)),
        frizz=rng.uniform(0.1, 0.5),
        curl=rng.uniform(0.5, 1.2) if rng.random() < 0.25 else 0.0,
    )
    return Model(strands, [_skin(vertices, faces, albedo), *_eyes(rng, vertices, faces, length)], closest=1.8)


def coat(
    rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, albedo: Field, count: int, length: float,
    radius: float, lean: float, gravity: float, clump: float, per_clump: int, frizz: float, curl: float,
) -> list[Strands]:  # fmt: skip
    """Strands growing out of a mesh: guard hairs, and an undercoat half as long that leaves no bare skin.

    Args:
        albedo: colour as a function of the root's position.
        length: mean length, which varies smoothly over the body.
        lean: inclination of strands along the body's flow; 0 is upright.
        gravity: downward bend of the tips. radius: radius at the root, increased if the coat would not cover the body.
        clump: displacement of tips to the middle of their tuft, 0 to 1.
        frizz: waviness of single strands. curl: radius of the curls of a tuft, as a share of a tenth of the length.
    """
    roots, normals = scattered(rng, vertices, faces, count)
    radius = max(radius, COVER * surface_area(vertices, faces) / (2 * count * length))
    flow = _flow(rng, roots, normals)
    lengths = length * np.exp(0.3 * smooth_field(rng, 2.5)(roots)[:, 0]) * rng.lognormal(0, 0.18, count)
    under = rng.random(count) < 0.4
    lengths[under] *= rng.uniform(0.5, 0.8)
    direction = normals + lean * flow + rng.normal(0, 0.12, (count, 3))
    lying = rng.normal(size=(count, 3))
    lying -= (lying * normals).sum(1, keepdims=True) * normals
    # The undercoat grows in all directions, so it covers the skin where the combed hairs part.
    direction = unit(np.where(under[:, None], 0.45 * normals + unit(lying) + 0.5 * lean * flow, direction))
    m = 9 if length < 0.12 and not curl and frizz < 0.3 else 15
    s = np.linspace(0, 1, m)[None, :, None]
    down = np.array([0.0, 0, -1])
    sag = gravity * (down + (-(normals @ down)[:, None]).clip(0) * normals) + 0.5 * lean * flow
    span = lengths[:, None, None]
    points = roots[:, None] + span * (direction[:, None] * s + 0.5 * sag[:, None] * s**2)

    leaders = rng.choice(count, max(count // per_clump, 1), replace=False)
    near = leaders[cKDTree(roots[leaders]).query(roots)[1]]
    pulled = clump * rng.beta(4, 1.6, count) * (rng.random(count) > 0.07) * np.where(under, 0.35, 1)
    points = points + (pulled[:, None, None] * s**1.4) * (points[near] - points)
    points += _waves(rng, near, s, span, normals, frizz, curl)
    stray = rng.random(count) < rng.uniform(0.004, 0.03)
    bend = rng.normal(size=(int(stray.sum()), 1, 3))
    points[stray] += span[stray] * (0.35 * bend * s**2 + 0.15 * normals[stray][:, None] * s)

    thick = radius * rng.lognormal(0, 0.2, (count, 1)) * (1 - 0.85 * s[..., 0] ** 1.6)
    tint = varied(rng, np.ones(3), count, 0.16) * np.exp(0.12 * np.sin(near * 12.9898))[:, None]
    colour = np.clip(albedo(roots) * tint, 0, 0.98)[:, None]
    tips = np.exp(rng.normal(0, 0.5)) if rng.random() < 0.3 else 1.0  # ticked hairs: other tips
    shade = np.clip(colour * (1 + (0.25 * s + (tips - 1) * s**3)), 0, 0.98)
    gloss = rng.uniform(0.03, 0.16)
    return [Strands(points, thick, shade, Finish(gloss, rng.uniform(25, 90), 2 * gloss, rng.uniform(0.3, 0.9)))]


def _waves(
    rng: np.random.Generator, near: np.ndarray, s: np.ndarray, span: np.ndarray, normals: np.ndarray, frizz: float,
    curl: float,
) -> np.ndarray:  # fmt: skip
    """Displacement (n, m, 3): one slow and one quicker wave per strand, and curls in step within a tuft."""
    n = len(near)
    phase, axis = rng.uniform(0, 2 * np.pi, (n, 1, 3)), np.minimum(rng.lognormal(0, 0.5, (n, 1, 1)), 1.6)
    slow = np.sin(rng.uniform(1.5, 4, (n, 1, 3)) * s + phase) - np.sin(phase)
    quick = 0.25 * (np.sin(rng.uniform(5, 8, (n, 1, 3)) * s + 2 * phase) - np.sin(2 * phase))
    moved = 0.25 * frizz * span * axis * (slow + quick) * np.minimum(1, 3 * s)
    if curl:
        angle = (6 + (near * 0.37) % 4)[:, None, None] * s + ((near * 1.7) % 6.28)[:, None, None]
        first = unit(np.cross(normals, [0.31, 0.5, 0.81]))[:, None]
        second = np.cross(normals, first[:, 0])[:, None]
        moved = moved + 0.1 * curl * span * s * (np.cos(angle) * first + np.sin(angle) * second)
    return moved


def _flow(rng: np.random.Generator, roots: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Combing direction along the surface, (n, 3), of length up to 1 and almost nowhere 0."""
    comb = unit(np.array([rng.normal(), rng.normal(), rng.normal() - 1.0]))
    wish = comb + 0.45 * smooth_field(rng, rng.uniform(1.5, 4), 3)(roots)
    along = wish - (wish * normals).sum(1, keepdims=True) * normals
    return along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 0.35)


def _body(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A mesh about 2 units across: a lumpy ball, a head with ears, or a sitting or standing animal."""
    kind = rng.choice(["lump", "head", "sitting", "standing"], p=[0.3, 0.25, 0.25, 0.2])
    implicit = {"lump": _lump, "head": _head, "sitting": _sitting, "standing": _standing}[kind](rng)
    dent = smooth_field(rng, rng.uniform(2.5, 5))
    depth = rng.uniform(0.01, 0.06)
    vertices, faces = meshed(lambda p: implicit(p) + depth * dent(p)[..., 0], [-1.7] * 3, [1.7] * 3, 56)
    return vertices, outwards(vertices, faces)


def _lump(rng: np.random.Generator) -> Implicit:
    k = int(rng.integers(1, 5))
    return ellipsoids(rng.normal(0, 0.35, (k, 3)), rng.uniform(0.5, 1.0, (k, 3)), blend=0.15)


def _head(rng: np.random.Generator) -> Implicit:
    """Facing +y."""
    wide, ear = rng.uniform(0.75, 0.95), rng.uniform(0.18, 0.4)
    long_ears = rng.random() < 0.3
    ear_size = [0.2, 0.14, rng.uniform(0.5, 0.8)] if long_ears else [ear, 0.4 * ear, ear * rng.uniform(0.9, 1.5)]
    x, z = rng.uniform(0.45, 0.7), rng.uniform(0.6, 0.8) + (0.3 if long_ears else 0)
    snout = rng.uniform(0.25, 0.5)
    centres = np.array([[0, 0, 0], [x, -0.05, z], [-x, -0.05, z], [0, 0.75, -0.2], [0, -0.2, -1.1]])
    radii = np.array([[wide, 0.8, 0.78], ear_size, ear_size, [snout, 0.35, 0.8 * snout], [0.7, 0.6, 0.7]])
    return ellipsoids(centres, radii, blend=0.07)


def _sitting(rng: np.random.Generator) -> Implicit:
    head, ear = rng.uniform(0.4, 0.55), rng.uniform(0.12, 0.22)
    up = 0.55 + 0.5 * head
    centres = np.array([
        [0, 0, -0.35], [0, 0.1, up], [0.75 * head, 0.05, up + 0.75 * head], [-0.75 * head, 0.05, up + 0.75 * head],
        [0.55, 0.35, -0.9], [-0.55, 0.35, -0.9], [0.55, 0.3, 0.0], [-0.55, 0.3, 0.0], [0, 0.1 + head, up - 0.1],
    ])  # fmt: skip
    radii = np.array([
        [0.65, 0.55, 0.7], [head, 0.9 * head, 0.9 * head], [ear, 0.6 * ear, 1.2 * ear], [ear, 0.6 * ear, 1.2 * ear],
        [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.2, 0.25, 0.45], [0.2, 0.25, 0.45], [0.2, 0.2, 0.15],
    ])  # fmt: skip
    jitter = rng.normal(0, 0.04, centres.shape)
    return ellipsoids(centres + jitter, radii * rng.uniform(0.85, 1.15, radii.shape), blend=0.06)


def _standing(rng: np.random.Generator) -> Implicit:
    leg, neck = rng.uniform(0.4, 0.7), rng.uniform(0.3, 0.7)
    centres = np.array([
        [0, 0, 0], [0, 0.95, neck], [0, 0.7, 0.4 * neck], [0.28, 0.6, -leg], [-0.28, 0.6, -leg], [0.28, -0.6, -leg],
        [-0.28, -0.6, -leg], [0, -1.05, 0.1], [0, 1.3, neck - 0.05], [0.2, 0.9, neck + 0.33], [-0.2, 0.9, neck + 0.33],
    ])  # fmt: skip
    radii = np.array([
        [0.42, 0.9, 0.42], [0.3, 0.36, 0.3], [0.26, 0.34, 0.4], [0.13, 0.16, leg], [0.13, 0.16, leg], [0.13, 0.18, leg],
        [0.13, 0.18, leg], [0.1, 0.35, 0.12], [0.15, 0.25, 0.13], [0.09, 0.05, 0.17], [0.09, 0.05, 0.17],
    ])  # fmt: skip
    return ellipsoids(centres, radii * rng.uniform(0.85, 1.2, radii.shape), blend=0.07)


def _skin(vertices: np.ndarray, faces: np.ndarray, albedo: Field) -> Mesh:
    """The body under the coat. It is darker than the coat, because the hairs shade it."""
    return Mesh(vertices, faces, 0.5 * albedo(vertices), Finish(0.0, 10, 0.0, 0.0, 5.0))


def _eyes(rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, length: float) -> list[Mesh]:
    """Sometimes a few dark, shining balls that look out of the coat: eyes, a nose, buttons."""
    if rng.random() < 0.5:
        return []
    ball, ball_faces = sphere(24, 13)
    normals = vertex_normals(vertices, faces)
    forward = np.flatnonzero(normals[:, 1] > 0.5)
    if len(forward) == 0:
        return []
    meshes = []
    for at in rng.choice(forward, 3):
        radius = rng.uniform(0.06, 0.12)
        place = vertices[at] + normals[at] * min(0.4 * length, radius)
        colour = np.tile(hsv(rng.uniform(0, 0.1), 0.4, rng.uniform(0.03, 0.12)), (len(ball), 1))
        shine = Finish(0.5, 180, 0.0, 0.0, 4.0)
        meshes.append(Mesh(place + radius * ball, ball_faces, colour, shine, ball))
    return meshes
