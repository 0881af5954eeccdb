"""Light: a voxel density for shadows and ambient occlusion, and reflection from strands and surfaces.

Shadows follow the law of Beer and Lambert through the density. Strands have two reflection lobes, of which the second
is tinted by the passage through the fibre, and a transmission lobe (Marschner et al., "Light Scattering from Human Hair
Fibers", SIGGRAPH 2003, with lobes of cosines instead of Gaussians).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from data.rendering.model import Finish

CELLS = 72  # cells along the longest side of the density volume


@dataclass(frozen=True)
class Lights:
    """Distant lights and the sky.

    Attributes:
        directions: (K, 3) unit vectors towards the lights. colours: (K, 3) linear RGB.
        sky, ground: (3,) ambient light from above and from below.
    """

    directions: np.ndarray
    colours: np.ndarray
    sky: np.ndarray
    ground: np.ndarray


class Density:
    """Projected area per volume on a grid around the object, in units of 1 / length.

    Args:
        low, high: (3,) corners of the object's bounding box.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.cell = float(max((high - low).max(), 1e-6)) / CELLS
        self.low = low - 3 * self.cell
        self.grid = np.zeros(np.ceil((high - low) / self.cell).astype(int) + 7, np.float32)
        self._occlusion = self._smooth = None

    def add(self, points: np.ndarray, areas: np.ndarray) -> None:
        """Add (N,) projected `areas` at (N, 3) `points`."""
        index = ((points - self.low) / self.cell).astype(np.int64)
        flat = np.ravel_multi_index(tuple(index.T), self.grid.shape, mode="clip")
        added = np.bincount(flat, areas / self.cell**3, self.grid.size)
        self.grid += added.reshape(self.grid.shape).astype(np.float32)

    def optical_depth(self, points: np.ndarray, direction: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        """Density integrated from (N, 3) `points`, each moved by `bias` cells, towards a distant light, (N,)."""
        if self._smooth is None:
            self._smooth = gaussian_filter(self.grid, 0.7)  # otherwise cells are visible on smooth surfaces
        volume = _swept(self._smooth, np.asarray(direction, np.float64)) * self.cell
        return _sampled(volume, self._coordinates(points + np.asarray(bias) * self.cell))

    def occlusion(self, points: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        """Optical depth of the neighbourhood, (N,), which hides the sky."""
        if self._occlusion is None:
            self._occlusion = gaussian_filter(self.grid, 2.5) * np.float32(5 * self.cell)
        return _sampled(self._occlusion, self._coordinates(points + np.asarray(bias) * self.cell))

    def _coordinates(self, points: np.ndarray) -> np.ndarray:
        return ((points - self.low) / self.cell - 0.5).astype(np.float32)


def _swept(grid: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Density summed from each cell towards the light, in cells: layer by layer along the direction's main axis."""
    axis = int(np.argmax(np.abs(direction)))
    order = [axis] + [a for a in range(3) if a != axis]
    layers = np.ascontiguousarray(grid.transpose(order))
    if direction[axis] > 0:  # the light is beyond the last layer, so the sum starts there
        layers = layers[::-1]
    main = abs(direction[axis])
    shift = direction[order[1:]] / main
    out = np.empty(layers.shape, np.float32)
    _sweep(np.ascontiguousarray(layers), np.float32(shift[0]), np.float32(shift[1]), np.float32(1 / main), out)
    if direction[axis] > 0:
        out = out[::-1]
    return np.ascontiguousarray(out.transpose(np.argsort(order)))


@njit(cache=True, fastmath=True, nogil=True)
def _sweep(layers, shift_a, shift_b, step, out):
    n, rows, columns = layers.shape
    for i in range(n):
        for a in range(rows):
            for b in range(columns):
                value = np.float32(0)
                if i > 0:
                    fa, fb = a + shift_a, b + shift_b
                    ia, ib = int(np.floor(fa)), int(np.floor(fb))
                    wa, wb = fa - ia, fb - ib
                    for p in range(2):
                        for q in range(2):
                            y, x = ia + p, ib + q
                            if 0 <= y < rows and 0 <= x < columns:
                                weight = (wa if p else 1 - wa) * (wb if q else 1 - wb)
                                value += weight * (out[i - 1, y, x] + step * layers[i - 1, y, x])
                out[i, a, b] = value


@njit(cache=True, fastmath=True, nogil=True)
def _sampled(volume, coordinates):
    """Trilinear samples of `volume` at (N, 3) coordinates in cells; clamped at the border."""
    n0, n1, n2 = volume.shape
    out = np.empty(len(coordinates), np.float32)
    for i in range(len(coordinates)):
        x = min(max(coordinates[i, 0], 0), n0 - 1.001)
        y = min(max(coordinates[i, 1], 0), n1 - 1.001)
        z = min(max(coordinates[i, 2], 0), n2 - 1.001)
        a, b, c = int(x), int(y), int(z)
        u, v, w = x - a, y - b, z - c
        near = (1 - v) * ((1 - w) * volume[a, b, c] + w * volume[a, b, c + 1])
        near += v * ((1 - w) * volume[a, b + 1, c] + w * volume[a, b + 1, c + 1])
        far = (1 - v) * ((1 - w) * volume[a + 1, b, c] + w * volume[a + 1, b, c + 1])
        far += v * ((1 - w) * volume[a + 1, b + 1, c] + w * volume[a + 1, b + 1, c + 1])
        out[i] = (1 - u) * near + u * far
    return out


def strand_radiance(
    points: np.ndarray, tangents: np.ndarray, views: np.ndarray, albedo: np.ndarray, finish: Finish, lights: Lights,
    density: Density,
) -> np.ndarray:  # fmt: skip
    """Linear RGB (N, 3) of strand points; `tangents` and `views` (towards the camera) are (N, 3) unit vectors."""
    out = np.zeros((len(points), 3), np.float32)
    ambient = np.stack([lights.sky, lights.ground]).astype(np.float32)
    _strand_ambient(density.occlusion(points), tangents, albedo, ambient, out)
    for direction, colour in zip(lights.directions, lights.colours, strict=True):
        depth = density.optical_depth(points, direction, 0.8 * direction)
        lobes = np.array([finish.specular, finish.exponent, finish.tinted, finish.transmitted], np.float32)
        _strand_direct(
            depth, tangents, views, albedo, direction.astype(np.float32), colour.astype(np.float32), lobes, out
        )
    return out


@njit(cache=True, fastmath=True, nogil=True)
def _strand_ambient(occlusion, tangents, albedo, ambient, out):
    for i in range(len(occlusion)):
        up = 0.6 + 0.25 * abs(1 - abs(tangents[i, 2]))
        for c in range(3):
            light = up * ambient[0, c] + (1 - up) * ambient[1, c]
            base = albedo[i, c]
            out[i, c] += light * base * (0.18 + 0.82 * np.exp(-0.9 * occlusion[i] * (1 - 0.6 * base)))


@njit(cache=True, fastmath=True, nogil=True)
def _strand_direct(depth, tangents, views, albedo, light, colour, lobes, out):
    sin, cos = np.sin(0.05), np.cos(0.05)  # the cuticle's tilt: 3 degrees, tripled and reversed for the tinted lobe
    sin_tinted, cos_tinted = np.sin(0.08), np.cos(0.08)
    for i in range(len(depth)):
        tl = tangents[i, 0] * light[0] + tangents[i, 1] * light[1] + tangents[i, 2] * light[2]
        tv = tangents[i, 0] * views[i, 0] + tangents[i, 1] * views[i, 1] + tangents[i, 2] * views[i, 2]
        sl, sv = np.sqrt(max(0, 1 - tl * tl)), np.sqrt(max(0, 1 - tv * tv))
        lv = light[0] * views[i, 0] + light[1] * views[i, 1] + light[2] * views[i, 2]
        azimuth = min(1, max(-1, (lv - tl * tv) / max(sl * sv, 1e-3)))  # cosine of the angle around the fibre
        cone = sl * sv - tl * tv  # cosine of the deviation from the specular cone
        lean = tl * sv + tv * sl
        front = 0.5 + 0.5 * azimuth
        specular = lobes[0] * max(0, cone * cos - lean * sin) ** lobes[1] * front
        tinted = lobes[2] * max(0, cone * cos_tinted + lean * sin_tinted) ** (0.3 * lobes[1]) * front
        through = lobes[3] * max(0, cone) ** 8 * max(0, -azimuth) ** 3
        diffuse = 0.6 * sl * (0.62 + 0.38 * azimuth)
        for c in range(3):
            base = albedo[i, c]
            # light in pale fibres is scattered further and is not lost
            shade = np.exp(-0.6 * depth[i] * (1 - 0.7 * base))
            out[i, c] += (
                colour[c] * shade * (base * diffuse + specular + base * tinted + base * np.sqrt(base) * through)
            )


def surface_radiance(
    points: np.ndarray, normals: np.ndarray, views: np.ndarray, albedo: np.ndarray, finish: Finish, lights: Lights,
    density: Density,
) -> np.ndarray:  # fmt: skip
    """Linear RGB (N, 3) of mesh vertices, seen from the side that faces the camera."""
    normals = normals * np.where((normals * views).sum(1) < 0, -1, 1)[:, None].astype(np.float32)
    sky = density.occlusion(points, 2.5 * normals)
    up = (0.5 + 0.5 * normals[:, 2:]).astype(np.float32)
    hidden = 0.15 + 0.85 * np.exp(-0.5 * sky)[:, None]
    out = (albedo * (up * lights.sky + (1 - up) * lights.ground) * hidden).astype(np.float32)
    lobes = np.array([finish.specular, finish.exponent, finish.tinted, finish.transmitted], np.float32)
    for direction, colour in zip(lights.directions, lights.colours, strict=True):
        facing = np.sign(normals @ direction)[:, None]
        depth = density.optical_depth(points, direction, 1.5 * direction + 2.0 * facing * normals)
        _surface_direct(
            depth, normals, views, albedo, direction.astype(np.float32), colour.astype(np.float32), lobes, out
        )
    return out


@njit(cache=True, fastmath=True, nogil=True)
def _surface_direct(depth, normals, views, albedo, light, colour, lobes, out):
    for i in range(len(depth)):
        nl = normals[i, 0] * light[0] + normals[i, 1] * light[1] + normals[i, 2] * light[2]
        hx, hy, hz = light[0] + views[i, 0], light[1] + views[i, 1], light[2] + views[i, 2]
        nh = (normals[i, 0] * hx + normals[i, 1] * hy + normals[i, 2] * hz) / np.sqrt(
            hx * hx + hy * hy + hz * hz + 1e-9
        )
        shade = np.exp(-0.7 * depth[i])
        diffuse = 0.8 * max(0, nl)
        specular = lobes[0] * max(0, nh) ** lobes[1] * (nl > 0) * (0.25 + 0.02 * lobes[1])
        through = 0.8 * lobes[3] * max(0, -nl)
        for c in range(3):
            base = albedo[i, c]
            tint = 1 + lobes[2] * (base - 1)
            out[i, c] += colour[c] * shade * (base * (diffuse + through * np.sqrt(base)) + specular * tint)
