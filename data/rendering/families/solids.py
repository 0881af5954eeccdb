"""Solid objects with texture: fruit, stones, boxes, pots, mushrooms, knotted rings; plain edges, holes and handles."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, pattern
from data.rendering.curves import grid_faces, resampled, rotation, smooth_field, tubes, unit
from data.rendering.model import Finish, Mesh, Model
from data.rendering.plants import stalks
from data.rendering.solids import ellipsoids, meshed, outwards


def solid(rng: np.random.Generator) -> Model:
    """One or a few lumps: stones, boxes, dough, sculpture, sometimes pierced."""
    k = int(rng.integers(1, 7))
    centres, radii = rng.normal(0, 0.45, (k, 3)), rng.uniform(0.2, 0.8, (k, 3))
    round_parts = ellipsoids(
        centres, radii, rotation(unit(rng.normal(size=(k, 3))), rng.uniform(0, 3.1, k)), rng.uniform(0.02, 0.2)
    )
    boxy = rng.random() < 0.4
    turn = rotation(unit(rng.normal(size=(k, 3))), rng.uniform(0, 3.1, k))
    holes = int(rng.choice([0, 0, 1, 3, 8]))
    hole_at, hole_size = rng.normal(0, 0.5, (holes, 3)), rng.uniform(0.1, 0.35, holes)
    bump, depth = smooth_field(rng, rng.uniform(5, 25)), rng.uniform(0, 0.03)

    def implicit(p: np.ndarray) -> np.ndarray:
        if boxy:
            value = np.full(p.shape[:-1], 9.0)
            for i in range(k):
                q = np.abs((p - centres[i]) @ turn[i]) - radii[i]
                value = np.minimum(value, np.max(q, axis=-1))
        else:
            value = round_parts(p)
        for at, size in zip(hole_at, hole_size, strict=True):
            value = np.maximum(value, size - np.linalg.norm(p - at, axis=-1))
        return value + depth * bump(p)[..., 0]

    vertices, faces = meshed(implicit, [-1.9] * 3, [1.9] * 3, 76)
    albedo = _textured(rng, 2.0)(vertices)
    return Model([], [Mesh(vertices, outwards(vertices, faces), albedo, _surface(rng))], any_roll=True)


def turned(rng: np.random.Generator) -> Model:
    """A body of revolution: vase, cup, bottle, pumpkin, gourd, mushroom, chess piece; ribbed or smooth."""
    v = np.linspace(0, 1, 150)
    knots = int(rng.integers(4, 9))
    profile = np.interp(v, np.linspace(0, 1, knots), rng.uniform(0.18, 0.85, knots))
    kernel = np.hanning(int(rng.integers(5, 41)))
    padded = np.pad(profile, 30, mode="edge")
    profile = np.convolve(padded, kernel / kernel.sum(), mode="same")[30:-30]
    closed = rng.random() < 0.6
    if closed:
        profile = profile * np.sqrt(np.clip(np.minimum(v / 0.12, (1 - v) / 0.12), 0, 1))
    height, u = rng.uniform(0.9, 2.2), np.linspace(0, 2 * np.pi, 181)
    ribs, deep = int(rng.integers(6, 20)), rng.uniform(0, 0.15) * (rng.random() < 0.5)
    r = profile[:, None] * (1 - deep * np.abs(np.sin(ribs * u / 2)) ** 0.6 + 0 * u)
    points = np.stack([r * np.cos(u), r * np.sin(u), height * (v - 0.5)[:, None] + 0 * u], -1)
    points = points + rng.uniform(0, 0.03) * smooth_field(rng, 3, 3)(points)
    albedo = _textured(rng, 2.0)(points)
    if rng.random() < 0.35:  # painted bands or ribs
        wave = (
            np.sin(2 * np.pi * rng.integers(2, 10) * v)[:, None] + 0 * u
            if rng.random() < 0.5
            else np.cos(ribs * u)[None] + 0 * v[:, None]
        )
        albedo = np.where((wave > rng.uniform(-0.3, 0.6))[..., None], any_colour(rng), albedo)
    meshes = [Mesh(points.reshape(-1, 3), grid_faces(150, 181), np.clip(albedo, 0, 0.97).reshape(-1, 3), _surface(rng))]
    if rng.random() < 0.3:
        top = np.array([0, 0, height / 2 - 0.04]) + np.linspace(0, 0.35, 5)[:, None] * UP + rng.normal(0, 0.05, (5, 3))
        meshes.append(stalks(rng, resampled(top[None], 20), np.array([rng.uniform(0.03, 0.08)]), bark_colour(rng), 9))
    if rng.random() < 0.3:
        a = np.linspace(-1.4, 1.4, 30)
        edge = float(np.interp(0.5, v, profile))
        handle = np.stack([edge - 0.05 + 0.35 * np.cos(a), 0 * a, 0.35 * np.sin(a)], -1)[None]
        meshes.append(tubes(handle, np.full((1, 30), 0.05), any_colour(rng)[None, None], 12, _surface(rng)))
    return Model([], meshes, elevation=(-0.3, 1.0))


def loops(rng: np.random.Generator) -> Model:
    """Bent tubes: handles, cables, rings, pretzels, chains, hangers; many holes with plain edges."""
    n = int(rng.integers(1, 9))
    m = 240
    t = np.linspace(0, 2 * np.pi, m)
    curves = []
    for _ in range(n):
        a, b, c = rng.integers(1, 4), rng.integers(1, 5), rng.integers(1, 4)
        phase = rng.uniform(0, 6.28, 3)
        curve = np.stack([np.sin(a * t + phase[0]), 0.5 * np.sin(b * t + phase[1]), np.sin(c * t + phase[2])], -1)
        curves.append(curve * rng.uniform(0.35, 1.0) + rng.normal(0, 0.35, 3))
    curves = np.stack(curves)
    albedo = _textured(rng, 1.5)(curves)
    thick = rng.uniform(0.02, 0.14) * np.ones((n, m)) * rng.uniform(0.6, 1.4, (n, 1))
    return Model([], [tubes(curves, thick, albedo, 14, _surface(rng))], any_roll=True)


UP = np.array([0.0, 0, 1])


def _textured(rng: np.random.Generator, size: float):
    """A pattern of several colours over finer noise: stone, peel, wood, print."""
    coarse = pattern(
        rng, [any_colour(rng) if rng.random() < 0.7 else bark_colour(rng) for _ in range(3)], size, plain=0.3
    )
    fields = [(smooth_field(rng, f), 0.35 / np.sqrt(f)) for f in (12, 25, 50, 100)]
    strength = rng.uniform(0, 2.2)

    def albedo(points: np.ndarray) -> np.ndarray:
        level = sum(weight * field(points) for field, weight in fields)
        return np.clip(coarse(points) * np.exp(strength * level), 0, 0.97)

    return albedo


def _surface(rng: np.random.Generator) -> Finish:
    """Matt, satin or glossy."""
    kind = rng.random()
    if kind < 0.45:
        return Finish(rng.uniform(0, 0.05), 10, 0.0, 0.0, 5.0)
    if kind < 0.8:
        return Finish(rng.uniform(0.05, 0.3), rng.uniform(12, 50), 0.0, 0.0, 5.0)
    return Finish(rng.uniform(0.3, 0.8), rng.uniform(60, 200), 0.0, 0.0, 5.0)
