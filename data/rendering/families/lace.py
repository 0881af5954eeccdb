"""Lace and crochet, and spider webs: curves of thread on rings, spokes and fine grounds."""

import numpy as np

from data.rendering.colours import any_colour, bark_colour, varied
from data.rendering.curves import repeated_faces, resampled, sphere, tubes
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.wires import lattice, sagging, twine, worn

FRONT = np.array([0.0, 1.0, 0.0])


def lace(rng: np.random.Generator) -> Model:
    """Lace and crochet: rosettes and loops of thread on a fine ground, edges scalloped; it hangs in folds."""
    colour = any_colour(rng) if rng.random() < 0.5 else np.clip(any_colour(rng) * 0.2 + 0.7, 0, 0.95)
    round_cloth = rng.random() < 0.5
    warp = sagging(rng, rng.uniform(0.02, 0.35))
    parts = _doily(rng) if round_cloth else _lace_band(rng)
    thread = np.exp(rng.uniform(np.log(0.0045), np.log(0.012)))
    soft = Finish(0.04, 15, 0.2, 0.3, 1.5)
    strands = [twine(rng, warp(c), thread * w, colour, plies=3, per=3) if rng.random() < 0.3 and c.shape[0] < 200
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
    warp = sagging(rng, rng.uniform(0, 0.15))
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


def _doily(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Rings of petals, loops and spokes round a centre: curves and their relative thickness."""
    parts, radius = [], 0.12
    angle = np.linspace(0, 2 * np.pi, 900)
    fold = int(rng.choice([6, 8, 10, 12, 16]))
    while radius < 1.0:
        width = rng.uniform(0.07, 0.2)
        parts += _ring(rng, radius, width, fold, angle)
        radius += width
        parts += [(_polar(np.full(len(angle), radius + gap), angle)[None], 1.0) for gap in (0, 0.012)]
    edge = radius + 0.05 * np.abs(np.sin(1.5 * fold * angle))
    return [*parts, (_polar(edge, angle)[None], 1.2)]


def _ring(
    rng: np.random.Generator, radius: float, width: float, fold: int, angle: np.ndarray
) -> list[tuple[np.ndarray, float]]:
    """One ring from `radius` to `radius + width`, repeated a multiple of `fold` times."""
    kind = rng.choice(["loops", "petals", "spokes", "wave"])
    if kind == "loops":
        k = fold * int(rng.integers(1, 4))
        turned = angle + rng.uniform(0.6, 2.2) / k * np.sin(k * angle)
        return [(_polar(radius + width / 2 * (1 - np.cos(k * angle)), turned)[None], 1.0)]
    if kind == "petals":
        k = fold * int(rng.integers(1, 3))
        arch = np.abs(np.sin(k * angle / 2)) ** 0.7
        return [(_polar(radius + width * power * arch, angle)[None], 1.2) for power in (1.0, 0.6)]
    if kind == "spokes":
        k = fold * int(rng.integers(2, 8))
        along, start = np.linspace(0, 1, 8)[None], 2 * np.pi * np.arange(k)[:, None] / k
        reach = np.broadcast_to(radius + width * along, (k, 8))
        return [(_polar(reach, start + lean * 2 * np.pi / k * along), 0.8) for lean in (0, 1)]
    k = fold * int(rng.integers(2, 6))
    waves = [1 + np.sin(k * angle + shift) for shift in (0, np.pi)]
    return [(_polar(radius + width / 2 * wave, angle)[None], 0.9) for wave in waves]


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), 0 * radius, radius * np.sin(angle)], -1)


def _lace_band(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """A fine ground with scattered flowers, and scalloped edges: curves and their relative thickness."""
    cells = int(rng.integers(24, 56))
    ground = lattice(rng, cells, str(rng.choice(["square", "hexagon", "diamond"])), 0.1)
    flowers = [_lace_flower(rng) for _ in range(int(rng.integers(8, 40)))]
    x, scallops = np.linspace(-1, 1, 300), int(rng.integers(6, 20))
    rise = 1 + 0.025 * np.arange(5)[:, None] + 0.06 * np.abs(np.sin(scallops * np.pi * x / 2))
    edges = [np.stack(np.broadcast_arrays(x, 0.0, sign * rise), -1) for sign in (1, -1)]
    return [(c, 0.6) for c in ground] + [(c, 1.1) for c in flowers] + [(c, 1.2) for c in edges]


def _lace_flower(rng: np.random.Generator) -> np.ndarray:
    """Four nested outlines of a flower, (4, 60, 3), somewhere on the cloth."""
    angle, size = np.linspace(0, 2 * np.pi, 60), rng.uniform(0.06, 0.22)
    outline = size * (0.45 + 0.55 * np.abs(np.cos(0.5 * int(rng.integers(4, 9)) * angle)))
    middle = np.array([rng.uniform(-0.9, 0.9), 0, rng.uniform(-0.9, 0.9)])
    return middle + np.array([1.0, 0.75, 0.5, 0.3])[:, None, None] * _polar(outline, angle)


def _dew(rng: np.random.Generator, threads: np.ndarray, thread: float) -> Mesh:
    chosen = threads.reshape(-1, 3)
    chosen = chosen[rng.random(len(chosen)) < rng.uniform(0.1, 0.7)]
    ball, ball_faces = sphere()
    radius = thread * rng.uniform(1.5, 4) * rng.lognormal(0, 0.3, (len(chosen), 1, 1))
    vertices = chosen[:, None] + ball[None] * radius
    faces = repeated_faces(ball_faces, len(ball), len(chosen))
    return Mesh(
        vertices.reshape(-1, 3), faces, np.full((len(vertices.reshape(-1, 3)), 3), 0.6), Finish(1.0, 150, 0, 0.5, 0.5)
    )


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
        meshes.append(tubes(curve, thick, worn(rng, curve, bark_colour(rng)), 9, Finish(0.03, 10, 0, 0, 4.0)))
    return meshes
