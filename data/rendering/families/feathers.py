"""Feathers: barbs on a curved shaft, with splits, down and patterns; fans and boas of many."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, hair_colour, hsv
from data.rendering.curves import facing, frames, grown, resampled, smooth_field, tubes, unit
from data.rendering.model import Finish, Mesh, Model, Strands

QUILL = Finish(0.25, 40, 0.2, 0.2, 3.0)


def feather(rng: np.random.Generator) -> Model:
    """One feather, from a stiff quill to a plume of down."""
    strands, shaft = _feathers(
        rng, 1, np.zeros((1, 3)), np.eye(3)[None], barbs=int(rng.uniform(380, 900)), scale=np.ones(1)
    )
    return Model([strands], [shaft], facing=np.array([0.0, 1, 0]), spread=0.9, any_roll=True, closest=2.6)


def feathers(rng: np.random.Generator) -> Model:
    """A fan, a wing, a head-dress or a boa: many feathers side by side or round a string."""
    n = int(rng.integers(6, 26))
    boa = rng.random() < 0.35
    if boa:
        n = int(rng.integers(40, 80))
        knots = np.stack([np.linspace(-1.1, 1.1, 6), rng.normal(0, 0.1, 6), rng.normal(0, 0.25, 6)], -1)
        line = resampled(knots[None], n)[0]
        direction = unit(rng.normal(size=(n, 3)) * [0.5, 1, 1])
        matrices, scale = facing(direction, rng.normal(size=(n, 3))), rng.uniform(0.28, 0.45, n)
        places = line
    else:
        fan = np.linspace(-1, 1, n) * rng.uniform(0.3, 1.3)
        direction = np.stack([np.sin(fan), rng.normal(0, 0.06, n), np.cos(fan)], -1)
        up = np.stack([rng.normal(0, 0.2, n), np.ones(n), rng.normal(0, 0.2, n)], -1)
        matrices, scale = facing(direction, up), rng.uniform(0.85, 1.1, n)
        places = np.stack([0.25 * np.sin(fan), 0.03 * np.arange(n) * rng.choice([-1, 1]), -0.6 * np.ones(n)], -1)
    strands, shaft = _feathers(rng, n, places, matrices, int(np.clip(18000 / n, 90, 420)), scale)
    return Model([strands], [shaft], facing=None if boa else np.array([0.0, 1, 0]), spread=0.8, any_roll=boa)


def _feathers(
    rng: np.random.Generator, n: int, places: np.ndarray, matrices: np.ndarray, barbs: int, scale: np.ndarray
) -> tuple[Strands, Mesh]:
    """n feathers of one kind of bird: barbs to both sides of each shaft.

    A feather is drawn in the plane z = 0 first, its shaft along y with barbs to both sides; then it is turned by
    `matrices` (columns across, along, normal), scaled and moved to `places`.
    """
    m, points = 40, 16
    t = np.linspace(0, 1, m)
    stiff = rng.random() < 0.6
    bend = rng.normal(0, 0.35, (n, 1)) * t**1.5
    sweep = rng.normal(0, 0.35 if stiff else 0.8, (n, 1)) * t**2
    shaft = np.stack([bend, 2 * t[None] - 1 + 0 * bend, sweep], -1)  # x across, y along, z out of the plane

    side = np.repeat([-1.0, 1.0], barbs)
    at = np.tile(np.linspace(0.1, 0.995, barbs), 2)
    u = (at - 0.1) / 0.9
    wide = rng.uniform(0.12, 0.4) * np.where(side > 0, 1, rng.uniform(0.35, 1.0))  # flight feathers are lopsided
    outline = wide * np.sin(np.pi * np.clip(0.06 + 0.9 * u ** rng.uniform(0.7, 1.4), 0, 1)) ** rng.uniform(0.35, 0.8)
    angle = rng.uniform(0.5, 1.15) * (1 - 0.55 * u**3)  # from the shaft
    down = np.clip(1 - u / rng.uniform(0.08, 0.4), 0, 1) if stiff else np.full(2 * barbs, rng.uniform(0.4, 1))
    tangents, _, _ = frames(shaft)
    k = np.minimum((at * (m - 1)).astype(int), m - 2)
    part = (at * (m - 1) - k)[None, :, None]
    roots = shaft[:, k] + part * (shaft[:, k + 1] - shaft[:, k])  # (n, 2 barbs, 3)
    along = tangents[:, k]
    across = np.cross(along, [0.0, 0, 1]) * side[None, :, None]
    shifted = _with_splits(rng, n, angle, at, side)[..., None]
    heading = np.cos(shifted) * along + np.sin(shifted) * across
    lengths = (
        outline[None]
        / np.maximum(np.sin(angle), 0.35)[None]
        * rng.lognormal(0, 0.03, (n, 2 * barbs))
        * (1 + 0.25 * down)
    )
    loose = down[None, :, None]
    heading = heading + loose * rng.normal(0, 0.35, heading.shape) + [0, 0, rng.uniform(0.0, 0.25)]
    curl = 0.5 * along + [0, 0, -rng.uniform(0, 0.7)] + loose * rng.normal(0, 1.3, heading.shape)
    barb = grown(rng, roots.reshape(-1, 3), heading.reshape(-1, 3), lengths.reshape(-1), points, curl.reshape(-1, 3))
    radius, albedo = _barb_surface(rng, n, barbs, at, down, outline, points)
    soft = Finish(rng.uniform(0.04, 0.2), rng.uniform(15, 60), 0.25, 0.8, 0.8)
    world = np.repeat(np.arange(n), 2 * barbs)
    barb = np.einsum("nij,nmj->nmi", matrices[world], barb * scale[world][:, None, None]) + places[world][:, None]
    strands = Strands(barb, radius * scale[world][:, None], albedo, soft)
    axis = np.einsum("nij,nmj->nmi", matrices, shaft * scale[:, None, None]) + places[:, None]
    quill = hsv(rng.uniform(0.05, 0.14), rng.uniform(0.05, 0.5), rng.uniform(0.3, 0.95))
    thick = (rng.uniform(0.007, 0.016) * (1 - 0.92 * t))[None] * scale[:, None]
    return strands, tubes(axis, thick, quill[None, None], 8, QUILL)


def _with_splits(rng: np.random.Generator, n: int, angle: np.ndarray, at: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Angles of barbs (n, 2 barbs): neighbours cling together in vanes, which part in a few places."""
    out = np.repeat(angle[None], n, axis=0)
    for _ in range(int(rng.integers(0, 7))):
        where, which = rng.random((n, 1)), rng.choice([-1, 1], (n, 1))
        gap = (at[None] - where) / rng.uniform(0.04, 0.2)
        out += (side[None] == which) * np.sign(gap) * -rng.uniform(0.05, 0.28) * np.exp(-np.abs(gap)) * 1.0
    return out + rng.normal(0, 0.015, out.shape)


def _barb_surface(
    rng: np.random.Generator, n: int, barbs: int, at: np.ndarray, down: np.ndarray, outline: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Radius (n * 2 barbs, points) and albedo (n * 2 barbs, points, 3): plain, barred, edged, spotted or shaded."""
    s = np.linspace(0, 1, points)[None]
    spacing = 1.8 / barbs  # of roots along the shaft: barbs with their barbules cover it
    vane = spacing * rng.uniform(0.42, 0.62) * (1 - 0.35 * s**3)
    thread = spacing * rng.uniform(0.12, 0.25) * (1 - 0.6 * s)
    radius = vane + np.clip(1.4 * down[:, None], 0, 1) * (thread - vane)
    base, mark = (any_colour(rng), any_colour(rng)) if rng.random() < 0.45 else (hair_colour(rng, 0), bark_colour(rng))
    kind = rng.choice(["plain", "bars", "edge", "eye", "tip", "specks"])
    a, b = at[:, None], s
    if kind == "bars":
        level = np.sin(2 * np.pi * rng.integers(4, 14) * (a + rng.uniform(-0.1, 0.1) * b)) * 3
    elif kind == "edge":
        level = 10 * (b - rng.uniform(0.4, 0.85)) + 0 * a
    elif kind == "eye":
        level = 5 * np.cos(6 * np.hypot((a - 0.75) * 3, b * 1.2))
    elif kind == "tip":
        level = 12 * (a + 0.2 * b - rng.uniform(0.5, 0.9))
    elif kind == "specks":
        level = 4 * (
            smooth_field(rng, 25)(np.stack(np.broadcast_arrays(a, b * outline[:, None], 0 * a), -1))[..., 0] - 0.7
        )
    else:
        level = np.full((2 * barbs, points), -4.0)
    share = (1 / (1 + np.exp(-level)))[..., None]
    fluff = np.clip(base * 0.3 + 0.5, 0, 0.9) if rng.random() < 0.6 else base
    colour = base + share * (mark - base)
    colour = colour + down[:, None, None] * (fluff - colour)
    colour = np.tile(colour, (n, 1, 1)) * rng.lognormal(0, 0.07, (n * 2 * barbs, 1, 1))
    return np.tile(radius, (n, 1)), np.clip(colour, 0.003, 0.96)
