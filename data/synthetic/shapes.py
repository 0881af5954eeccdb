"""Coverage of bodies, leaves and patterns: the shapes of alpha, except strands (strands.py).

Coordinates are (x, y) pixels of the output window, where pixel (row, column) covers [column, column + 1) x
[row, row + 1). Shapes may extend beyond the window. Outlines are closed (N, 2) polygons.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from data.synthetic.textures import fractal_noise

SUBPIXEL_BITS = 4  # fixed-point fraction bits of cv2's polygon coordinates


def blob_outline(rng: np.random.Generator, radius: float, roughness: float) -> np.ndarray:
    """A star-shaped outline about the origin whose radius is noise with a power-law spectrum.

    Args:
        radius: mean radius in pixels.
        roughness: 0 for an ellipse-like body, 1 for a ragged one.
    """
    points = int(np.clip(4 * radius, 64, 1536))
    harmonics = np.arange(1, min(points // 4, 96))
    decay = 2.6 - 1.3 * roughness
    amplitude = (0.03 + 0.16 * roughness) * harmonics**-decay * rng.standard_normal(len(harmonics))
    amplitude[:3] += 0.12 * rng.standard_normal(3) / harmonics[:3]
    spectrum = np.zeros(points // 2 + 1, complex)
    spectrum[harmonics] = amplitude * np.exp(2j * np.pi * rng.random(len(harmonics))) * points / 2
    distance = radius * np.maximum(1 + np.fft.irfft(spectrum, points), 0.15)
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    stretch = np.exp(rng.normal(0, 0.2))
    outline = np.stack([distance * np.cos(angle) * stretch, distance * np.sin(angle) / stretch], axis=1)
    return rotated(outline, rng.uniform(0, 2 * np.pi))


def polygon_outline(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Outline of 3 to 8 corners with straight sides about the origin, such as a box, card or paper."""
    corners = int(rng.integers(3, 9))
    angle = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    distance = radius * rng.uniform(0.6, 1.3, corners)
    nodes = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    return resampled(nodes, int(np.clip(4 * radius, 64, 1536)))


def resampled(outline: np.ndarray, points: int) -> np.ndarray:
    """The same closed outline with `points` vertices at equal distances along it."""
    closed = np.concatenate([outline, outline[:1]])
    travelled = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, travelled[-1], points, endpoint=False)
    return np.stack([np.interp(at, travelled, closed[:, axis]) for axis in (0, 1)], axis=1)


def body_outlines(rng: np.random.Generator, scale: float) -> list[np.ndarray]:
    """One to four overlapping outlines about the origin: a main body, then heads, ears or limbs on its edge.

    Args:
        scale: radius of the main body, pixels.
    """
    roughness = rng.beta(1.2, 3)
    main = polygon_outline(rng, scale) if rng.random() < 0.15 else blob_outline(rng, scale, roughness)
    outlines = [main]
    for _ in range(int(rng.choice(4, p=[0.45, 0.2, 0.25, 0.1]))):
        part = blob_outline(rng, scale * rng.uniform(0.15, 0.55), roughness)
        part[:, 0] *= rng.uniform(0.4, 1)
        outlines.append(rotated(part, rng.uniform(0, np.pi)) + main[rng.integers(len(main))] * 1.05)
    if rng.random() < 0.4:  # shoulders or a pot, which extend beyond the bottom
        half = scale * rng.uniform(0.3, 1.2)
        trapezoid = np.array([[-half * 0.6, 0], [half * 0.6, 0], [half, 4 * scale], [-half, 4 * scale]])
        outlines.append(resampled(trapezoid, int(np.clip(8 * scale, 64, 2048))))
    return outlines


def rotated(points: np.ndarray, angle: float) -> np.ndarray:
    """Rotate (..., 2) points about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def supersampling(height: int, width: int) -> int:
    """Sub-pixels per pixel side for drawing polygons, fewer for large pictures, whose edges are blurred anyway."""
    return 4 if height * width <= 320 * 320 else 2


def coverage_of(outlines: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Share of each pixel inside the union of `outlines`: (height, width) float32, by supersampling."""
    factor = supersampling(height, width)
    mask = np.zeros((height * factor, width * factor), np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [_fixed_point(outline, factor)], 255, shift=SUBPIXEL_BITS)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def painted_polygons(polygons: np.ndarray, colours: np.ndarray, height: int, width: int) -> np.ndarray:
    """Draw (N, M, 2) polygons over each other, each in its (3,) uint8 colour: an (height, width, 4) layer."""
    factor = supersampling(height, width)
    canvas = np.zeros((height * factor, width * factor, 4), np.uint8)
    seen = (polygons.max(axis=1) > 0).all(axis=1) & (polygons.min(axis=1) < (width, height)).all(axis=1)
    for polygon, colour in zip(_fixed_point(polygons[seen], factor), colours[seen].tolist(), strict=True):
        cv2.fillPoly(canvas, [polygon], (*colour, 255), shift=SUBPIXEL_BITS)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def ribbons(
    roots: np.ndarray, directions: np.ndarray, lengths: np.ndarray, widths: np.ndarray, bends: np.ndarray, shape: float
) -> tuple[np.ndarray, np.ndarray]:
    """Leaves, petals, blades or yarn: bands about a parabola-shaped midrib, each cut in two along it.

    Args:
        roots: (N, 2). directions: (N,) radians. lengths, widths: (N,) pixels.
        bends: (N,) turning of the midrib over its length, radians.
        shape: position of the widest place: 0 at the root (blade), 0.5 in the middle (leaf), 1 at the tip (petal).

    Returns:
        Left and right halves, (N, M, 2) each, since the halves of a real leaf differ in light.
    """
    t = np.linspace(0, 1, 14)
    turn = directions[:, None] + bends[:, None] * (t - 0.5)
    step = lengths[:, None, None] / (len(t) - 1) * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    midrib = roots[:, None] + np.cumsum(step, axis=1) - step[:, :1]
    profile = t ** (1.2 * shape) * (1 - t) ** (1.2 * (1 - shape) * 0.8 + 0.12)
    normal = np.stack([-np.sin(turn), np.cos(turn)], axis=-1)
    side = normal * (0.5 * widths[:, None] * profile / profile.max())[..., None]
    back = midrib[:, ::-1]
    return np.concatenate([midrib + side, back], axis=1), np.concatenate([midrib - side, back], axis=1)


def lattice(rng: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    """Coverage of a bent net: threads in both directions, or a sheet with round holes. (height, width) float32."""
    u, v = _bent_cells(rng, height, width, period)
    if rng.random() < 0.6:
        thread = period * rng.uniform(0.12, 0.4)
        distance = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) * period
        return np.clip(thread / 2 - distance + 0.5, 0, 1)
    u += 0.5 * (np.floor(v) % 2)  # every other row is offset, as in perforated sheets and lace
    distance = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5) * period
    return np.clip(distance - period * rng.uniform(0.25, 0.46) + 0.5, 0, 1)


def irregular_holes(rng: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    """Coverage of a sheet with holes where noise is low: (height, width) float32, with edges of about a pixel."""
    noise = fractal_noise(rng, height, width, rng.uniform(0.3, 0.55), period / max(height, width))
    slope = cv2.meanStdDev(np.diff(noise, axis=1))[1].item() + 1e-4
    threads = rng.random() < 0.5  # only a level line remains: lace and cobweb
    signed = 0.1 - np.abs(noise - 0.5) if threads else noise - rng.uniform(0.3, 0.55)
    return np.clip(signed / (1.5 * slope) + 0.5, 0, 1)


def smoke(rng: np.random.Generator, height: int, width: int, envelope: np.ndarray) -> np.ndarray:
    """Coverage of smoke or cloud: fractal noise inside a soft (height, width) `envelope`, opaque where dense."""
    noise = fractal_noise(rng, height, width, rng.uniform(0.45, 0.7), rng.uniform(0.25, 0.7))
    density = rng.uniform(1.2, 2.4) * envelope * (0.25 + noise) - rng.uniform(0.05, 0.3)
    return np.clip(density, 0, 1).astype(np.float32)


def inner_distance(coverage: np.ndarray, reach: float) -> np.ndarray:
    """0 outside and at the edge, rising to 1 at `reach` pixels inside. (H, W) float32."""
    distance = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    return np.clip(distance / reach, 0, 1)


def _bent_cells(rng: np.random.Generator, height: int, width: int, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in units of `period`, rotated, sheared and smoothly bent."""
    bend = rng.uniform(0, 1.5) * rng.standard_normal((4, 4, 2), np.float32)
    bend = cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC)
    x = np.arange(width, dtype=np.float32)[None] / period + bend[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] / period + bend[..., 1]
    angle = rng.uniform(0, np.pi)
    cos, sin, shear = (np.float32(value) for value in (np.cos(angle), np.sin(angle), rng.uniform(-0.5, 0.5)))
    return x * cos + y * sin, (y * cos - x * sin) + shear * (x * cos + y * sin)


def _fixed_point(outline: np.ndarray, factor: int) -> np.ndarray:
    """cv2's integer coordinates of an outline on the supersampled grid, whose pixel centres are integers."""
    return np.rint((outline * factor - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
