"""Hair of the head: straight to tightly curled, parted, tied, blown by wind; braids hang on their own."""

import numpy as np
from scipy.spatial import cKDTree

from data.rendering.colours import any_colour, hair_colour, skin_colour, varied
from data.rendering.curves import frames, grown, smooth_field, unit
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.solids import ellipsoids, meshed, outwards, scattered


def hair(rng: np.random.Generator) -> Model:
    """A head seen from any side with a full head of hair: 11,000 to 32,000 strands."""
    head, skull = _head_mesh(rng)
    style = rng.choice(["long", "short", "round", "tied"], p=[0.45, 0.2, 0.2, 0.15])
    curl = rng.choice([0.0, rng.uniform(0.2, 1.0), rng.uniform(1.0, 3.0)], p=[0.35, 0.4, 0.25])
    count = (
        int(rng.uniform(11000, 14000))
        if curl > 1
        else int(rng.uniform(18000, 24000))
        if curl or style == "long"
        else 32000
    )
    roots, normals = _roots(rng, head, skull, count)
    strands = _styled(rng, roots, normals, skull, style, float(curl))
    return Model([strands], [head], elevation=(-0.25, 0.5), rooted="bottom")


def braid(rng: np.random.Generator) -> Model:
    """A plait or ponytail that hangs free, ending in a brush of loose tips."""
    count, m = 5000, 110
    s = np.linspace(0, 1, m)
    sway = smooth_field(rng, 1.6, 2)(np.stack([2.2 * s, 0 * s, 0 * s], -1))
    core = np.stack([0.18 * sway[:, 0], 0.18 * sway[:, 1], 1.3 - 2.6 * s], -1)
    parts = int(rng.choice([1, 3]))
    lobe = rng.integers(0, parts, count)
    turns = rng.uniform(3.5, 7)
    angle = 2 * np.pi * (turns * s[None] + lobe[:, None] / 3)
    loose = np.clip((s - rng.uniform(0.72, 0.85)) / 0.12, 0, 1) ** 2
    wide = rng.uniform(0.12, 0.2) * (1 - 0.35 * s)
    if parts == 3:  # three lobes that swing past each other: a figure of eight across, at twice the pace in depth
        x, y = wide * np.cos(angle), 0.55 * wide * np.sin(2 * angle)
    else:
        x = y = np.zeros((count, m))
    _, first, second = (axis[0] for axis in frames(core[None]))
    disc = np.sqrt(rng.random(count)) * (0.8 * wide.max() if parts == 3 else wide.max())
    around = rng.uniform(0, 2 * np.pi, count)
    fan = disc[:, None] * (0.75 + 1.3 * loose)
    twist = around[:, None] + rng.uniform(-2, 2) * s[None]
    x, y = x * (1 - loose) + fan * np.cos(twist), y * (1 - loose) + fan * np.sin(twist)
    points = core[None] + x[..., None] * first + y[..., None] * second
    reach = rng.uniform(0.75, 1.0, count)  # hairs end at different heights
    at = s[None] * reach[:, None] * (m - 1)
    k = np.minimum(at.astype(int), m - 2)
    rows = np.arange(count)[:, None]
    points = points[rows, k] + (at - k)[..., None] * (points[rows, k + 1] - points[rows, k])
    points += _frizz(rng, points, rng.uniform(0.02, 0.2), 0.12)
    colour = _coloured(rng, points, np.zeros(count, int))
    radius = rng.uniform(0.0012, 0.0026) * rng.lognormal(0, 0.2, (count, 1)) * (1 - 0.7 * s**3)
    return Model([Strands(points, radius, colour, _gloss(rng))], elevation=(-0.6, 0.6), rooted="top")


def _head_mesh(rng: np.random.Generator) -> tuple[Mesh, tuple[np.ndarray, np.ndarray]]:
    """Head, neck and shoulders facing +y, and the skull's centre and radii."""
    centre, radii = np.array([0.0, 0, 0.35]), np.array([0.52, 0.62, 0.68]) * rng.uniform(0.92, 1.08, 3)
    centres = np.array([centre, [0, 0.06, -0.05], [0, -0.08, -0.6], [0, -0.08, -1.5], [0, 0.66, 0.22]])
    sizes = np.array(
        [radii, [0.4, 0.48, 0.4], [0.25, 0.27, 0.5], [rng.uniform(0.75, 1.05), 0.45, 0.65], [0.09, 0.14, 0.16]]
    )
    implicit = ellipsoids(centres, sizes, blend=0.08)
    vertices, faces = meshed(implicit, [-1.3, -1.1, -1.75], [1.3, 1.1, 1.3], 52)
    faces = outwards(vertices, faces)
    albedo = np.tile(skin_colour(rng) if rng.random() < 0.85 else any_colour(rng), (len(vertices), 1))
    albedo[vertices[:, 2] < -0.85 + 0.1 * np.cos(4 * vertices[:, 0])] = any_colour(rng)
    shine = Finish(0.15, 20, 0.0, 0.05, 4.0)
    return Mesh(vertices, faces, albedo, shine), (centre, radii)


def _roots(
    rng: np.random.Generator, head: Mesh, skull: tuple[np.ndarray, np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Roots and normals on the scalp: behind the hairline and above the nape."""
    middle = head.vertices[head.faces].mean(axis=1)
    centre, radii = skull
    local = (middle - centre) / radii
    line = 0.15 * smooth_field(rng, 3)(local)[:, 0]
    scalp = (local[:, 2] > -0.55 + line) & (local[:, 1] < 0.35 + 0.75 * local[:, 2] + line) & (middle[:, 2] > -0.1)
    scalp &= np.linalg.norm(local, axis=1) < 1.25
    return scattered(rng, head.vertices, head.faces, count, scalp.astype(float))


def _styled(
    rng: np.random.Generator, roots: np.ndarray, normals: np.ndarray, skull: tuple[np.ndarray, np.ndarray], style: str,
    curl: float,
) -> Strands:  # fmt: skip
    count = len(roots)
    m = 22 if not curl else 40 if curl < 1 else 60
    length = {"long": rng.uniform(0.8, 2.0), "short": rng.uniform(0.15, 0.6), "round": rng.uniform(0.3, 0.7)}.get(
        style, 1.5
    )
    lengths = length * rng.lognormal(0, 0.1, count) * np.where(rng.random(count) < 0.15, rng.uniform(0.4, 1, count), 1)
    parting = rng.uniform(-0.25, 0.25)  # where hair falls to either side
    side = np.sign(roots[:, 0] - parting + rng.normal(0, 0.01, count))
    away = np.stack([side * 0.9, np.full(count, rng.uniform(-0.6, 0.3)), np.full(count, 0.2)], axis=1)
    volume = rng.uniform(0.02, 0.22)
    heading = normals + away * rng.uniform(0.5, 1.2) + rng.normal(0, 0.15, (count, 3))
    heading += 0.4 * smooth_field(rng, 3, 3)(roots)
    wind = rng.normal(0, 1.2, 3) * (rng.random() < 0.3) * [1, 1, 0.4]
    pull = np.array([0, 0, -1.0]) * rng.uniform(2.5, 5) * length + wind * length
    if style == "round":
        heading, pull = normals + rng.normal(0, 0.3, (count, 3)), np.array([0, 0, -0.4])
    elif style == "short":
        heading, pull = heading + rng.uniform(-0.6, 1.2) * normals, pull * 0.5
    elif style == "tied":
        return _tied(rng, roots, normals, skull, curl)
    centre, radii = skull
    depth = 1 + volume * (0.15 + rng.random(count) ** 1.5) * np.array(lengths > 0.2)

    def outside(points: np.ndarray) -> np.ndarray:
        """Move points out of the skull, so that hair rests on it in layers."""
        local = (points - centre) / (radii * depth[:, None])
        short = np.linalg.norm(local, axis=1, keepdims=True)
        return np.where(short < 1, centre + local / np.maximum(short, 1e-6) * radii * depth[:, None], points)

    guide = grown(rng, roots, heading, lengths, m, pull, bend=rng.uniform(0.05, 0.5), keep_outside=outside)
    return _finished(rng, guide, lengths, curl)


def _tied(
    rng: np.random.Generator, roots: np.ndarray, normals: np.ndarray, skull: tuple[np.ndarray, np.ndarray], curl: float
) -> Strands:
    """Hair drawn over the skull to a knot, from which a tail falls."""
    centre, radii = skull
    count, m = len(roots), 44 if curl < 1 else 60
    knot = centre + radii * unit(np.array([rng.uniform(-0.3, 0.3), -1.0, rng.uniform(-0.1, 1.2)])) * 1.12
    t = np.linspace(0, 1, m // 2)[None, :, None]
    chord = roots[:, None] + (knot - roots[:, None]) * t
    local = (chord - centre) / radii
    over = 1.02 + 0.06 * rng.random((count, 1, 1)) * np.sin(np.pi * t)
    reached = np.maximum(np.linalg.norm(local, axis=-1, keepdims=True), over)
    first = centre + local / np.linalg.norm(local, axis=-1, keepdims=True) * reached * radii
    first[:, 0] = roots
    length = rng.uniform(0.7, 1.6)
    out = unit(knot - centre + [0, 0, rng.uniform(0, 0.5)])
    heading = out + rng.normal(0, 0.32, (count, 3))
    pull = np.array([0, 0, -1.0]) * rng.uniform(3, 5) + rng.normal(0, 0.8, 3)
    lengths = length * rng.lognormal(0, 0.15, count)
    start = knot + rng.normal(0, 0.025, (count, 3))
    tail = grown(rng, start, heading, lengths, m - m // 2 + 1, pull, bend=0.25)
    first[:, -1] = start
    drawn = np.concatenate([first, tail[:, 1:]], axis=1)
    for _ in range(3):  # round the bend at the knot
        drawn[:, 1:-1] += 0.25 * (drawn[:, :-2] - 2 * drawn[:, 1:-1] + drawn[:, 2:])
    return _finished(rng, drawn, lengths, curl, held=0.5)


def _finished(
    rng: np.random.Generator, guide: np.ndarray, lengths: np.ndarray, curl: float, held: float = 0.0
) -> Strands:
    """Locks, curls, frizz, fly-aways and colour on (n, m, 3) guides; the first share `held` stays smooth."""
    count, m = guide.shape[:2]
    s = np.linspace(0, 1, m)[None, :, None]
    free = np.clip((s - held) / max(1 - held, 1e-6), 0, 1)
    leaders = rng.choice(count, max(count // int(rng.uniform(30, 220)), 8), replace=False)
    near = leaders[cKDTree(guide[leaders, 0]).query(guide[:, 0])[1]]
    clump = rng.uniform(0.2, 0.9) * rng.beta(3, 1.5, (count, 1, 1)) * (rng.random((count, 1, 1)) > 0.06)
    points = guide + clump * free**1.2 * (guide[near] - guide)
    if curl:
        loops = curl * rng.uniform(2.5, 4.5) * lengths.mean()
        loops = min(loops, m * (1 - held) / 17) * (1 + 0.25 * np.sin(near * 3.7)) * rng.normal(1, 0.06, count)
        _, first, second = frames(guide)
        angle = 2 * np.pi * loops[:, None] * s[..., 0] + (near * 1.7 % 6.28)[:, None] + rng.normal(0, 0.4, (count, 1))
        radius = (0.085 / (0.6 + curl)) * np.minimum(1, 4 * free[..., 0]) * rng.lognormal(0, 0.25, (count, 1))
        points += (radius * np.cos(angle))[..., None] * first + (radius * np.sin(angle))[..., None] * second
    points += _frizz(rng, points, rng.uniform(0.02, 0.35), float(np.mean(lengths)) * 0.12) * np.minimum(1, 5 * free)
    stray = np.flatnonzero(rng.random(count) < rng.uniform(0.003, 0.03))
    away = rng.normal(size=(len(stray), 1, 3)) * lengths[stray, None, None]
    points[stray] += away * (0.22 * free**1.7)
    radius = rng.uniform(0.0009, 0.0023) * rng.lognormal(0, 0.2, (count, 1)) * (1 - 0.75 * s[..., 0] ** 2)
    return Strands(points, radius, _coloured(rng, points, near), _gloss(rng))


def _frizz(rng: np.random.Generator, points: np.ndarray, amount: float, scale: float) -> np.ndarray:
    count, m = points.shape[:2]
    s = np.linspace(0, 1, m)[None, :, None]
    moved = np.zeros_like(points)
    for pace, weight in ((5, 1.0), (11, 0.5), (19, 0.25)):
        if pace < m / 3:  # slower than the polyline's own steps: no kinks
            phase = rng.uniform(0, 2 * np.pi, (count, 1, 3))
            moved += weight * (np.sin(rng.uniform(0.7, 1.3, (count, 1, 3)) * pace * s + phase) - np.sin(phase))
    return amount * scale * moved * np.minimum(1, 3 * s) * np.minimum(rng.lognormal(0, 0.6, (count, 1, 1)), 2.5)


def _coloured(rng: np.random.Generator, points: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Albedo (n, m, 3): strand by strand and lock by lock a little different, sometimes streaked or with dark roots."""
    count, m = points.shape[:2]
    base, other = hair_colour(rng, 0.22), hair_colour(rng, 0.3)
    streaks = rng.random() < 0.3
    mix = (
        1 / (1 + np.exp(-6 * (smooth_field(rng, rng.uniform(4, 9))(points[:, 0]) - 0.6)))
        if streaks
        else np.zeros((count, 1))
    )
    colour = (base + mix * (other - base)) * varied(rng, np.ones(3), count, 0.18)
    colour *= np.exp(0.15 * np.sin(near * 12.9898))[:, None]
    s = np.linspace(0, 1, m)[None, :, None]
    roots = rng.uniform(0.35, 1.0) if rng.random() < 0.4 else 1.0
    ends = rng.uniform(0.9, 1.7)
    along = (roots + (1 - roots) * np.clip(s / 0.3, 0, 1)) * (1 + (ends - 1) * s**1.5)
    return np.clip(colour[:, None] * along, 0.002, 0.97)


def _gloss(rng: np.random.Generator) -> Finish:
    specular = rng.uniform(0.04, 0.22)
    return Finish(specular, rng.uniform(30, 140), rng.uniform(1, 2.5) * specular, rng.uniform(0.4, 1.0))
