"""Families of matting objects, the foregrounds of scenes.

Each function draws one kind of object, placed by its outlines, into a premultiplied layer (layers.py). `FAMILIES`
maps names to functions and shares of scenes. Hair and fur have the largest shares, as they matter most for matting.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic import shapes, strands
from data.synthetic.layers import blurred, layer_of, lit, over
from data.synthetic.textures import defocused, fractal_noise, random_colour, random_palette

PIECES_PER_SIDE = 120  # largest number of strand pieces per pixel of a picture's side; limits the time


@dataclass(frozen=True)
class Frame:
    """The drawn window, and the scene that it is cut from.

    `height`, `width`: size of the window in pixels. `unit`: the scene's shorter side in pixels, to which sizes relate.
    `outlines`: the body, in window coordinates. `surface`: (height, width, 3) uint8 colours of the lit body.
    """

    height: int
    width: int
    unit: float
    outlines: list[np.ndarray]
    surface: np.ndarray

    def body(self) -> np.ndarray:
        """The body filled with its surface, as a layer."""
        return layer_of(self.surface, shapes.coverage_of(self.outlines, self.height, self.width))


def solid(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A body with a plain edge, sometimes with holes."""
    coverage = shapes.coverage_of(frame.outlines, frame.height, frame.width)
    if rng.random() < 0.3:
        coverage = coverage * (1 - _scattered_blobs(rng, frame))
    return layer_of(frame.surface, coverage)


def furry(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A body covered with short tufts that point outwards and are combed one way: animals, soft toys."""
    length = frame.unit * np.exp(rng.uniform(np.log(0.012), np.log(0.11)))
    thickness = np.clip(frame.unit / 500 * np.exp(rng.uniform(np.log(0.35), np.log(1.4))), 0.3, 2)
    points, normals = _edge_points(frame.outlines, frame, reach=length)
    if len(points) == 0:
        return frame.body()
    per_tuft = int(rng.integers(4, 25))
    wanted = rng.uniform(1.5, 6.0) / thickness * len(points)
    tufts = max(1, int(min(wanted, _budget(frame, length, thickness)) / per_tuft))
    chosen = rng.integers(len(points), size=tufts)
    comb = rng.normal(0, 0.7)
    heading = np.arctan2(normals[chosen, 1], normals[chosen, 0]) + comb + rng.normal(0, rng.uniform(0.1, 0.5), tufts)
    lengths = length * rng.lognormal(0, 0.3, tufts)
    depth = rng.uniform(0, 0.9, tufts)[:, None] * length  # roots inside the body, so that the rim has the same fibres
    roots = points[chosen] - normals[chosen] * depth
    x, y = strands.grown(rng, roots, heading, lengths, rng.uniform(0.1, 0.9), rng.uniform(0, 0.5))
    spread, gather = length * rng.uniform(0.1, 0.6), rng.uniform(-0.5, 0.7)
    fibres = _fibres(rng, frame, x, y, thickness, per_tuft, spread, gather)
    fibre_layer = strands.drawn(fibres, frame.height, frame.width)
    return over(fibre_layer, frame.body())


def hairy(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A body with long locks lying along it or flying off, and single fly-away hairs around."""
    thickness = np.clip(frame.unit / 600 * np.exp(rng.uniform(np.log(0.4), np.log(1.7))), 0.3, 3)
    layer = frame.body()
    locks = _locks(rng, frame, thickness)
    if locks is not None:
        layer = over(strands.drawn(locks, frame.height, frame.width), layer)
    loose = _flyaways(rng, frame, thickness * rng.uniform(0.5, 0.9))
    if loose is not None:
        layer = over(strands.drawn(loose, frame.height, frame.width), layer)
    return layer


def plant(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Leaves, blades or petals spreading from several places on a smaller body."""
    kind = rng.choice(["leaves", "blades", "petals"], p=[0.5, 0.3, 0.2])
    length = frame.unit * {"leaves": 0.16, "blades": 0.4, "petals": 0.22}[kind] * np.exp(rng.normal(0, 0.35))
    slimness = {"leaves": 0.25, "blades": 0.06, "petals": 0.4}[kind] * np.exp(rng.normal(0, 0.3))
    shape = {"leaves": 0.45, "blades": 0.15, "petals": 0.65}[kind]
    roots, heading = _leaf_places(rng, frame, kind, int(rng.integers(50, 200)))
    count = len(roots)
    lengths = length * rng.lognormal(0, 0.25, count)
    bends = rng.normal(0, 0.5, count)
    left, right = shapes.ribbons(roots, heading, lengths, slimness * lengths, bends, shape)
    polygons = np.stack([left, right], axis=1).reshape(2 * count, *left.shape[1:])
    colours = _leaf_colours(rng, frame, count)
    leaves = shapes.painted_polygons(polygons, colours, frame.height, frame.width)
    mottle = fractal_noise(rng, frame.height, frame.width, 0.8, 0.2)
    leaves = lit(leaves, (1 + rng.uniform(0.2, 1.2) * (mottle - 0.5)).astype(np.float32))
    if kind == "petals" or rng.random() < 0.5:
        core = [0.55 * outline + 0.45 * outline.mean(axis=0) for outline in frame.outlines]
        body = layer_of(frame.surface, shapes.coverage_of(core, frame.height, frame.width))
        return over(leaves, body) if kind != "petals" or rng.random() < 0.5 else over(body, leaves)
    return leaves


def tasselled(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Yarn, ribbons or fringe hanging from a body, each of its own colour: scarves, brushes, tails."""
    length = frame.unit * rng.uniform(0.2, 0.7)
    width = frame.unit * np.exp(rng.uniform(np.log(0.006), np.log(0.03)))
    points, _ = _edge_points(frame.outlines, frame, reach=length)
    if len(points) == 0:
        return frame.body()
    count = int(np.clip(rng.uniform(0.3, 1.2) * len(points) / width, 8, 140))
    hang = np.pi / 2 + rng.normal(0, 0.4)
    roots = points[rng.integers(len(points), size=count)]
    heading = hang + rng.normal(0, 0.15, count)
    bends = rng.normal(0, 0.6, count)
    lengths = length * rng.lognormal(0, 0.2, count)
    widths = width * rng.lognormal(0, 0.2, count)
    left, right = shapes.ribbons(roots, heading, lengths, widths, bends, shape=0.3)
    polygons = np.stack([left, right], axis=1).reshape(2 * count, *left.shape[1:])
    palette = np.concatenate([random_palette(rng) for _ in range(3)])
    colours = _two_sided(rng, palette[rng.integers(64, len(palette), count)])
    yarn = shapes.painted_polygons(polygons, colours, frame.height, frame.width)
    twist = fractal_noise(rng, frame.height, frame.width, 0.9, max(0.02, width / max(frame.height, frame.width)))
    return over(lit(yarn, (0.6 + 0.8 * twist).astype(np.float32)), frame.body())


def netted(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A body of which a part is net, lace, mesh or torn open."""
    period = float(np.clip(frame.unit * np.exp(rng.uniform(np.log(0.012), np.log(0.08))), 4, 60))
    pattern = shapes.lattice if rng.random() < 0.65 else shapes.irregular_holes
    sheet = pattern(rng, frame.height, frame.width, period)
    coverage = shapes.coverage_of(frame.outlines, frame.height, frame.width)
    if rng.random() < 0.6:
        border = shapes.inner_distance(coverage, 1 + rng.uniform(0.01, 0.04) * frame.unit)
        open_part = np.clip(4 * border - 3, 0, 1)
    else:
        middle = frame.outlines[0].mean(axis=0)
        spot = shapes.blob_outline(rng, frame.unit * rng.uniform(0.15, 0.3), 0.3) + middle
        open_part = shapes.coverage_of([spot], frame.height, frame.width)
    return layer_of(frame.surface, coverage * (1 - open_part * (1 - sheet)))


def soft(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A body far out of focus, or with an edge that fades over many pixels on one side."""
    layer = frame.body()
    wide = blurred(layer, frame.unit * np.exp(rng.uniform(np.log(0.006), np.log(0.04))))
    if rng.random() < 0.5:
        return wide
    mix = np.clip(2.5 * fractal_noise(rng, frame.height, frame.width, 0.3, 1.0) - 0.75, 0, 1)[..., None]
    return layer + mix * (wide - layer)


def glassy(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """A see-through body of nearly constant alpha with a dense bright rim, highlights and an opaque part."""
    coverage = shapes.coverage_of(frame.outlines, frame.height, frame.width)
    inside = shapes.inner_distance(coverage, frame.unit * rng.uniform(0.02, 0.08))
    body_alpha = rng.uniform(0.1, 0.7)
    rim = (1 - inside) ** rng.uniform(1, 3)
    streaks = np.clip((fractal_noise(rng, frame.height, frame.width, 0.5, 0.4) - 0.62) * 6, 0, 1)
    alpha = coverage * np.clip(body_alpha + (1 - body_alpha) * np.maximum(rim, streaks), 0, 1)
    tint = random_colour(rng).astype(np.float32) * 0.4 + 140
    white = np.maximum(streaks, 0.6 * rim)[..., None]
    colour = frame.surface * np.float32(0.35) + tint * 0.65
    colour += white * (245 - colour)
    glass = layer_of((colour / 255).astype(np.float32), alpha.astype(np.float32))
    shrunk = 0.4 * frame.outlines[-1] + 0.6 * frame.outlines[-1][rng.integers(len(frame.outlines[-1]))]
    opaque = layer_of(frame.surface, shapes.coverage_of([shrunk], frame.height, frame.width))
    return over(opaque, glass)


def smoky(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Smoke, steam, fire or cloud, opaque in its densest part."""
    coverage = shapes.coverage_of(frame.outlines, frame.height, frame.width)
    reach = frame.unit * rng.uniform(0.02, 0.1)
    envelope = cv2.resize(coverage, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    envelope = cv2.resize(cv2.GaussianBlur(envelope, (0, 0), max(0.5, reach / 4)), (frame.width, frame.height))
    alpha = shapes.smoke(rng, frame.height, frame.width, envelope)
    plain = defocused(frame.surface, reach)
    return layer_of(plain, alpha)


Family = Callable[[np.random.Generator, Frame], np.ndarray]

FAMILIES: dict[str, tuple[Family, float]] = {
    "hair": (hairy, 0.24),
    "fur": (furry, 0.22),
    "plant": (plant, 0.14),
    "solid": (solid, 0.14),
    "net": (netted, 0.08),
    "tassel": (tasselled, 0.05),
    "soft": (soft, 0.05),
    "glass": (glassy, 0.03),
    "smoke": (smoky, 0.05),
}


def _locks(rng: np.random.Generator, frame: Frame, thickness: float) -> strands.Strands | None:
    """Bundles of long hairs with common waves; they lie along the outline, towards the ground, or stand off."""
    length = frame.unit * np.exp(rng.uniform(np.log(0.1), np.log(0.5)))
    points, normals = _edge_points(frame.outlines, frame, reach=length)
    if len(points) == 0:
        return None
    per_lock = int(rng.integers(6, 24))
    wanted = rng.uniform(0.6, 2.0) / thickness * len(points)
    locks = max(1, int(min(wanted, _budget(frame, length, thickness)) / per_lock))
    chosen = rng.integers(len(points), size=locks)
    tangent = np.stack([-normals[chosen, 1], normals[chosen, 0]], axis=1)
    tangent *= np.where(tangent[:, 1:] < 0, -1, 1)  # the downward direction along the outline
    lying = np.clip(rng.uniform(0.2, 0.95) + rng.normal(0, 0.12, locks), 0, 1)[:, None]
    growth = normals[chosen] * (1 - lying) + tangent * lying
    heading = np.arctan2(growth[:, 1], growth[:, 0]) + rng.normal(0, 0.12, locks)
    depth = rng.uniform(0, 0.12, locks)[:, None] * length
    roots = points[chosen] - normals[chosen] * depth
    lengths = length * rng.lognormal(0, 0.35, locks)
    x, y = strands.grown(rng, roots, heading, lengths, rng.uniform(0.3, 2.2), rng.uniform(0, 1))
    spread = frame.unit * np.exp(rng.uniform(np.log(0.006), np.log(0.03)))
    return _fibres(rng, frame, x, y, thickness, per_lock, spread, gather=rng.uniform(-1.5, 0.7))


def _flyaways(rng: np.random.Generator, frame: Frame, thickness: float) -> strands.Strands | None:
    """A few thin single hairs with strong curls, anywhere along the outline."""
    length = frame.unit * np.exp(rng.uniform(np.log(0.1), np.log(0.45)))
    points, normals = _edge_points(frame.outlines, frame, reach=length)
    count = int(min(len(points) * rng.uniform(0.0, 0.35), _budget(frame, length, thickness)))
    if count == 0:
        return None
    chosen = rng.integers(len(points), size=count)
    heading = np.arctan2(normals[chosen, 1], normals[chosen, 0]) + rng.normal(0, 0.7, count)
    lengths = length * rng.lognormal(0, 0.5, count)
    roots = points[chosen] - normals[chosen] * (0.02 * frame.unit)
    x, y = strands.grown(rng, roots, heading, lengths, rng.uniform(0.8, 4), rng.uniform(0, 0.7))
    return _fibres(rng, frame, x, y, max(thickness, 0.3), 1, spread=0, gather=0)


def _fibres(
    rng: np.random.Generator,
    frame: Frame,
    x: np.ndarray,
    y: np.ndarray,
    thickness: float,
    per_bundle: int,
    spread: float,
    gather: float,
) -> strands.Strands:
    """Split (N, M) curves into bundles of fibres and colour them.

    The colour is that of the surface at the root, varied by bundle and by fibre, and changes evenly from root to tip.
    """
    x, y = strands.split(rng, x, per_bundle, spread, gather), strands.split(rng, y, per_bundle, spread, gather)
    count, points = x.shape
    coarse = cv2.resize(frame.surface, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    rows, columns = coarse.shape[:2]
    row = np.clip(y[:, 0] / 8, 0, rows - 1).astype(int)
    column = np.clip(x[:, 0] / 8, 0, columns - 1).astype(int)
    bundle = np.repeat(rng.normal(0, rng.uniform(0.05, 0.3), count // per_bundle), per_bundle)
    shade = np.exp(bundle + rng.normal(0, rng.uniform(0.1, 0.4), count))
    tint = np.exp(rng.normal(0, 0.06, (count, 3)))
    light = np.linspace(rng.uniform(0.6, 1.1), rng.uniform(0.9, 1.7), points)
    colours = np.minimum(coarse[row, column] / 255 * tint * shade[:, None], 1 / light.max())
    widths = thickness * rng.lognormal(0, 0.25, count)
    taper = strands.taper(points, tip=0.15 if per_bundle > 1 else 0.4)
    return strands.Strands(x, y, widths, taper, colours.astype(np.float32), light.astype(np.float32))


def _leaf_places(rng: np.random.Generator, frame: Frame, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Roots (count, 2) and headings (count,): leaves all over, blades from the ground up, petals about centres."""
    everything = np.concatenate(frame.outlines[:3])
    middle = everything.mean(axis=0)
    reach = rng.random(count) ** 0.5
    picked = everything[rng.integers(len(everything), size=count)]
    if kind == "blades":
        roots = middle + (picked - middle) * [1.0, 0.2] + [0, 0.2 * frame.unit]
        return roots, -np.pi / 2 + rng.normal(0, 0.55, count)
    if kind == "petals":
        centres = middle + (everything[rng.integers(len(everything), size=3)] - middle) * 0.8
        which = rng.integers(rng.integers(1, 4), size=count)
        heading = rng.uniform(0, 2 * np.pi, count)
        return centres[which] + 0.03 * frame.unit * np.stack([np.cos(heading), np.sin(heading)], 1), heading
    roots = middle + (picked - middle) * (1.05 * reach[:, None])
    outwards = roots - middle
    return roots, np.arctan2(outwards[:, 1], outwards[:, 0]) + rng.normal(0, 0.7, count)


def _leaf_colours(rng: np.random.Generator, frame: Frame, count: int) -> np.ndarray:
    """(2 * count, 3) uint8: one palette for all leaves, or green ones for a third of the plants."""
    palette = random_palette(rng, spread=0.05)
    if rng.random() < 0.35:
        green = np.array([rng.uniform(0.2, 0.9), 1.0, rng.uniform(0.05, 0.5)])
        palette = (palette.mean(axis=1, keepdims=True) * green).clip(0, 255).astype(np.uint8)
    return _two_sided(rng, palette[rng.integers(40, 256, count)])


def _two_sided(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """(N, 3) -> (2N, 3) uint8: every colour twice, for two sides with different light."""
    contrast = rng.uniform(0, 0.35)
    sides = colours[:, None] * np.array([1 - contrast, 1 + contrast])[:, None]
    return np.clip(sides.reshape(-1, 3) * rng.lognormal(0, 0.1, (2 * len(colours), 1)), 0, 255).astype(np.uint8)


def _scattered_blobs(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Coverage of some small blobs about the body's middle."""
    low, high = frame.outlines[0].min(axis=0), frame.outlines[0].max(axis=0)
    blobs = [
        shapes.blob_outline(rng, frame.unit * np.exp(rng.uniform(np.log(0.008), np.log(0.06))), 0.5)
        + rng.uniform(low, high)
        for _ in range(int(rng.integers(3, 25)))
    ]
    return shapes.coverage_of(blobs, frame.height, frame.width)


def _edge_points(outlines: list[np.ndarray], frame: Frame, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Points about one pixel apart on the outlines within `reach` of the window, and outward unit normals."""
    points, normals = [], []
    for outline in outlines:
        ahead, behind = np.roll(outline, -1, axis=0), np.roll(outline, 1, axis=0)
        along = ahead - behind
        area = np.sum(outline[:, 0] * ahead[:, 1] - ahead[:, 0] * outline[:, 1])
        normal = np.stack([along[:, 1], -along[:, 0]], axis=1) * np.sign(area)
        length = np.hypot(normal[:, 0], normal[:, 1])
        repeats = np.maximum(1, np.rint(length / 2)).astype(int)  # vertices represent the length around them
        points.append(np.repeat(outline, repeats, axis=0))
        normals.append(np.repeat(normal / np.maximum(length, 1e-6)[:, None], repeats, axis=0))
    points, normals = np.concatenate(points), np.concatenate(normals)
    near = (points > -reach).all(axis=1) & (points < (frame.width + reach, frame.height + reach)).all(axis=1)
    return points[near], normals[near]


def _budget(frame: Frame, length: float, thickness: float) -> float:
    """Largest number of strands of `length` and `thickness` pixels for the time of one picture."""
    visible = min(length, max(frame.height, frame.width))
    tracks = max(1.0, 1.4 * thickness / strands.TRACK_WIDTH)  # as widths vary about the thickness
    return PIECES_PER_SIDE * np.sqrt(frame.height * frame.width) * strands.PIECE_LENGTH / visible / tracks
