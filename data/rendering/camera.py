"""The camera: position, framing, focus and motion."""

from dataclasses import dataclass

import numpy as np

from data.rendering import raster
from data.rendering.curves import Field, smooth_field, unit
from data.rendering.model import Model


@dataclass(frozen=True)
class Camera:
    """A perspective camera.

    Attributes:
        position: (3,). axes: (3, 3), the directions right, down and forward in rows.
        focal: focal length in pixels. centre: (2,) pixel on the forward axis.
        focus: depth in focus. aperture: radius of the lens in units of length.
        shift, spin: motion during the exposure, in pixels (2,) and in radians about `centre`.
        flutter: None, or a function of points to two further components of motion, in pixels.
    """

    position: np.ndarray
    axes: np.ndarray
    focal: float
    centre: np.ndarray
    focus: float
    aperture: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    spin: float = 0.0
    flutter: Field | None = None

    def project(self, points: np.ndarray, radius: np.ndarray | None = None) -> np.ndarray:
        """Project points (N, 3) to the (N, 7) float32 columns of `raster.accumulate`."""
        local = (points - self.position) @ self.axes.T
        depth = np.maximum(local[:, 2], 1e-3 * self.focus)
        pixels = self.focal * local[:, :2] / depth[:, None] + self.centre
        out = np.zeros((len(points), 7), np.float32)
        out[:, :2], out[:, raster.DEPTH] = pixels, depth
        if radius is not None:
            out[:, raster.RADIUS] = self.focal * radius / depth
        out[:, raster.DEFOCUS] = self.focal * self.aperture * (1 / depth - 1 / self.focus)
        arm = pixels - self.centre
        motion = np.array(self.shift) + self.spin * np.stack([-arm[:, 1], arm[:, 0]], axis=1)
        if self.flutter is not None:
            motion = motion + self.flutter(points)
        out[:, 5:] = motion
        return out


def aimed(rng: np.random.Generator, model: Model, points: np.ndarray, size: int) -> Camera:
    """A random camera that shows the object with sample `points` (N, 3) in a square of `size` pixels."""
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    middle = (low + high) / 2
    reach = float(np.linalg.norm(points - middle, axis=1).max())
    towards = _direction(rng, model)
    field_of_view = np.radians(np.exp(rng.uniform(np.log(9), np.log(42))))
    distance = max(reach / np.tan(field_of_view / 2), 1.25 * reach)
    position = middle + distance * towards
    axes = _axes(rng, model, -towards)
    local = (points - position) @ axes.T
    flat = local[:, :2] / local[:, 2:]
    focal, centre = _framed(rng, model, flat, size)
    return Camera(position, axes, focal, centre, **_lens_and_motion(rng, local[:, 2], focal, size, reach, middle))


def _direction(rng: np.random.Generator, model: Model) -> np.ndarray:
    if model.facing is not None:
        return unit(unit(model.facing) + np.tan(min(model.spread, 1.3)) * rng.random() * unit(rng.normal(size=3)))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(*model.elevation)
    return np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])


def _axes(rng: np.random.Generator, model: Model, forward: np.ndarray) -> np.ndarray:
    up = np.array([0.0, 0, 1]) if abs(forward[2]) < 0.98 else np.array([0.0, 1, 0])
    right = unit(np.cross(forward, up))
    down = np.cross(forward, right)
    roll = rng.uniform(0, 2 * np.pi) if model.any_roll else rng.normal(0, 0.08)
    return np.stack([np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right, forward])


def _framed(rng: np.random.Generator, model: Model, flat: np.ndarray, size: int) -> tuple[float, np.ndarray]:
    """Focal length and principal point: usually the whole object, sometimes cut by the frame, sometimes close up."""
    low, high = np.percentile(flat, [1, 99], axis=0)
    extent, middle = (high - low).max(), (low + high) / 2
    if rng.random() < 0.68 or model.closest <= 1.2:
        fill = rng.uniform(0.62, 1.1)
        slack = np.maximum(size - fill * size * (high - low) / extent, 0)
        target = size / 2 + rng.uniform(-0.5, 0.5, 2) * (slack + 0.06 * size)
        if model.rooted and rng.random() < 0.65:
            half, beyond = 0.5 * fill * size * (high - low)[1] / extent, rng.uniform(-0.02, 0.25) * fill * size
            target[1] = size - half + beyond if model.rooted == "bottom" else half - beyond
    else:
        fill = rng.uniform(1.05, model.closest)
        # The camera looks at a point away from the middle, so that a part of the outline is visible.
        candidates = flat[rng.integers(len(flat), size=24)]
        middle = candidates[np.argsort(((candidates - middle) ** 2).sum(1))[int(rng.integers(8, 24))]]
        target = size * rng.uniform(0.35, 0.65, 2)
    focal = fill * size / extent
    return float(focal), target - focal * middle


def _lens_and_motion(
    rng: np.random.Generator, depth: np.ndarray, focal: float, size: int, reach: float, middle: np.ndarray
) -> dict:
    near, far = np.percentile(depth, [2, 98])
    focus = float(near + (far - near) * rng.beta(1.2, 1.8))
    spread = max(abs(1 / near - 1 / focus), abs(1 / far - 1 / focus), 1e-9)
    blur = size / 512 * (np.exp(rng.uniform(np.log(0.8), np.log(11))) if rng.random() < 0.5 else 0.3)
    settings = {"focus": focus, "aperture": float(blur / (focal * spread))}
    if rng.random() < 0.15:
        angle, length = rng.uniform(0, 2 * np.pi), size / 512 * np.exp(rng.uniform(np.log(2), np.log(28)))
        kind = rng.random()
        if kind < 0.5:
            settings["shift"] = (length * np.cos(angle), length * np.sin(angle))
        elif kind < 0.65:
            settings["spin"] = float(rng.choice([-1, 1]) * length / (0.5 * size))
        else:  # wind: every part moves differently
            field = smooth_field(rng, rng.uniform(1, 4) / reach, 2)
            settings["flutter"] = lambda points: 0.6 * length * field(points - middle)
    return settings
