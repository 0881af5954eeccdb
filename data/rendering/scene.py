"""Rendering of a model: drawing camera and light, dropping hidden parts, shading vertices, accumulating passes."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from data.rendering import raster
from data.rendering.camera import Camera, aimed
from data.rendering.colours import encoded, hsv
from data.rendering.curves import unit, vertex_normals
from data.rendering.lighting import Density, Lights, strand_radiance, surface_radiance
from data.rendering.model import Mesh, Model, Strands

PASSES = 64
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # weights of linear RGB (ITU-R BT.709)
MIDDLE_GRAY = 0.18


@dataclass(frozen=True)
class Projected:
    """Projected strands and triangles for `raster.accumulate`, with their radiance."""

    strands: np.ndarray
    strand_colours: np.ndarray
    starts: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    vertex_colours: np.ndarray


def render(rng: np.random.Generator, model: Model, size: int, passes: int = PASSES) -> np.ndarray:
    """Draw camera, light and lens for `model` and render it.

    Returns:
        (size, size, 4) float32: premultiplied linear RGB and alpha.
    """
    sample = _sample_points(model)
    camera = aimed(rng, model, sample, size)
    lights = drawn_lights(rng, camera)
    projected = shaded(model, camera, lights, size)
    projected = exposed(projected, metered(projected) * np.exp(rng.normal(0.1, 0.3)))
    offsets = raster.pass_offsets(rng, _needed(projected, passes), filter_width=rng.uniform(0.75, 1.4))
    return rasterised(projected, offsets, size)


def rasterised(projected: Projected, offsets: np.ndarray, size: int) -> np.ndarray:
    """Mean of all passes, (size, size, 4) float32."""
    total = np.zeros((size, size, 4), np.float32)
    raster.accumulate(
        projected.strands, projected.strand_colours, projected.starts, projected.vertices, projected.faces,
        projected.vertex_colours, offsets, total,
    )  # fmt: skip
    return total


def shaded(model: Model, camera: Camera, lights: Lights, size: int) -> Projected:
    """Project and shade all parts that may be visible. Colours are linear radiance without an upper limit."""
    meshes = [_with_normals(mesh) for mesh in model.meshes]
    density = _density(model.strands, meshes)
    flat_meshes = [camera.project(mesh.vertices) for mesh in meshes]
    vertices, faces, colours = _mesh_arrays(meshes, flat_meshes, camera, lights, density, size)
    hidden = _occluder(vertices, faces, camera, size)
    parts = [_visible_strands(strands, camera, hidden, size) for strands in model.strands]
    lit = [_strand_colours(part, flat, camera, lights, density) for part, flat in parts]
    points = [flat for _, flat in parts]
    counts = np.concatenate([np.full(len(p.points), p.points.shape[1]) for p, _ in parts] or [np.zeros(0, int)])
    return Projected(
        strands=np.concatenate(points) if points else np.zeros((0, 7), np.float32),
        strand_colours=np.concatenate(lit) if lit else np.zeros((0, 3), np.float32),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        vertices=vertices,
        faces=faces,
        vertex_colours=colours,
    )


def _needed(projected: Projected, passes: int) -> int:
    """Number of passes, more than `passes` for a small model with strong blur, which would show single passes."""
    points = np.concatenate([projected.strands[:, 4:], projected.vertices[:, 4:]])
    if len(points) == 0:
        return passes
    blur = np.percentile(np.abs(points[:: max(1, len(points) // 5000)]).max(axis=1), 90)
    wanted = passes * np.clip(blur / 2.5, 2, 4)
    work = len(projected.strands) + 2 * len(projected.faces) + 20000
    return int(min(wanted, max(passes, passes * 4e5 / work)))


def drawn_lights(rng: np.random.Generator, camera: Camera) -> Lights:
    """A key light from any side, often a second one, and a sky: sun, window, overcast day, studio, backlight."""
    towards_camera = -camera.axes[2]
    side, up = camera.axes[0], np.array([0.0, 0, 1])
    angle = rng.choice([-1, 1]) * rng.choice([rng.uniform(0.1, 1.3), rng.uniform(1.3, 2.9)], p=[0.68, 0.32])
    height = rng.uniform(0.05, 1.3)
    flat = unit(towards_camera - (towards_camera @ up) * up + 1e-6 * side)
    across = np.cross(up, flat)
    key = np.cos(height) * (np.cos(angle) * flat + np.sin(angle) * across) + np.sin(height) * up
    other = angle + rng.uniform(1.2, 3.0) * rng.choice([-1, 1])
    fill = unit(np.cos(other) * flat + np.sin(other) * across + rng.uniform(-0.3, 0.9) * up)
    overcast = rng.random() < 0.3
    warmth = rng.normal(0, 0.5)
    strength = rng.uniform(0.3, 0.9) if overcast else rng.uniform(1.0, 2.2)
    second = rng.uniform(0, 0.35) if rng.random() < 0.6 else rng.uniform(0.3, 1.2)
    sky = (rng.uniform(0.55, 1.0) if overcast else rng.uniform(0.12, 0.5)) * _tint(0.5 * rng.normal(-0.4, 0.6))
    ground = rng.uniform(0.15, 0.6) * sky.mean() * hsv(rng.uniform(0, 0.35), rng.uniform(0, 0.4), 1.0)
    colours = np.stack([strength * _tint(warmth), second * _tint(rng.normal(0, 0.5))])
    return Lights(np.stack([key, fill]), colours, sky, ground)


def foreground_and_alpha(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Straight sRGB colours (H, W, 3) and alpha (H, W), uint8, of a premultiplied linear picture.

    Colours are extended into pixels of alpha 0, so that a resampled composite has no dark fringe.
    """
    alpha = np.rint(255 * np.clip(picture[..., 3], 0, 1)).astype(np.uint8)
    filled = extended(picture)
    return np.rint(255 * encoded(filled)).astype(np.uint8), alpha


def extended(picture: np.ndarray) -> np.ndarray:
    """Straight colours (H, W, 3) of a premultiplied picture. Where alpha is 0, they are weighted colours nearby.

    In a pyramid of sums, each empty pixel gets the mean of the smallest block around it that is not empty.
    """
    levels = [np.ascontiguousarray(picture, np.float32)]
    while max(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        padded = np.pad(levels[-1], ((0, height % 2), (0, width % 2), (0, 0)))
        levels.append(
            4 * cv2.resize(padded, (padded.shape[1] // 2, padded.shape[0] // 2), interpolation=cv2.INTER_AREA)
        )
        levels[-1] = levels[-1].reshape(padded.shape[0] // 2, padded.shape[1] // 2, 4)
    colour = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in reversed(levels[:-1]):
        height, width = level.shape[:2]
        smooth = cv2.resize(colour, (2 * colour.shape[1], 2 * colour.shape[0]), interpolation=cv2.INTER_LINEAR)
        own = level[..., :3] / np.maximum(level[..., 3:], 1e-6)
        colour = np.where(level[..., 3:] > 1e-4, own, smooth.reshape(*smooth.shape[:2], 3)[:height, :width])
    return colour


def _tint(warmth: float) -> np.ndarray:
    """White light shifted towards orange (positive) or blue (negative), with green equal to 1."""
    return np.exp(warmth * np.array([0.35, 0.0, -0.45]))


def metered(projected: Projected) -> float:
    """Exposure of an automatic camera, which partly compensates for dark objects and dim light."""
    radiance = np.concatenate([projected.strand_colours, projected.vertex_colours])
    mean = float(np.mean(radiance @ LUMA)) if len(radiance) else MIDDLE_GRAY
    return float(np.clip((MIDDLE_GRAY / max(mean, 1e-4)) ** 0.45, 0.8, 2.5))


def exposed(projected: Projected, exposure: float) -> Projected:
    """The same scene with colours in [0, 1): radiance times `exposure`, with compressed highlights."""
    strand_colours, vertex_colours = (
        _compressed(np.float32(exposure) * colours) for colours in (projected.strand_colours, projected.vertex_colours)
    )
    return replace(projected, strand_colours=strand_colours, vertex_colours=vertex_colours)


def _compressed(light: np.ndarray) -> np.ndarray:
    """Linear up to 0.6, then a shoulder like that of cameras."""
    knee, room = np.float32(0.6), np.float32(0.4)
    over = np.maximum(light - knee, 0)
    return np.where(light > knee, knee + room * (over / (over + room)), light).astype(np.float32)


def _sample_points(model: Model, most: int = 20000) -> np.ndarray:
    parts = [s.points.reshape(-1, 3) for s in model.strands] + [m.vertices for m in model.meshes]
    points = np.concatenate([part[:: max(1, len(part) // most)] for part in parts])
    return np.asarray(points, float)


def _with_normals(mesh: Mesh) -> Mesh:
    if mesh.normals is not None:
        return mesh
    return Mesh(mesh.vertices, mesh.faces, mesh.albedo, mesh.finish, vertex_normals(mesh.vertices, mesh.faces))


def _density(strands: list[Strands], meshes: list[Mesh]) -> Density:
    everything = [s.points.reshape(-1, 3) for s in strands] + [m.vertices for m in meshes]
    low = np.min([part.min(0) for part in everything], axis=0)
    high = np.max([part.max(0) for part in everything], axis=0)
    density = Density(low, high)
    for part in strands:
        middle = (part.points[:, 1:] + part.points[:, :-1]) / 2
        length = np.linalg.norm(np.diff(part.points, axis=1), axis=-1)
        area = part.finish.density * length * (part.radius[:, 1:] + part.radius[:, :-1])
        density.add(middle.reshape(-1, 3), area.reshape(-1))
    for mesh in meshes:
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
        density.add((a + b + c) / 3, 0.5 * mesh.finish.density * area)
    return density


def _mesh_arrays(
    meshes: list[Mesh], flat_meshes: list[np.ndarray], camera: Camera, lights: Lights, density: Density, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Projected vertices, faces and radiance of all meshes; faces outside the frame are dropped."""
    vertices, faces, colours, offset = [np.zeros((0, 7), np.float32)], [np.zeros((0, 3), np.int32)], [], 0
    for mesh, flat in zip(meshes, flat_meshes, strict=True):
        inside = _near_frame(flat, size)
        kept = mesh.faces[inside[mesh.faces].any(axis=1)]
        used = np.zeros(len(flat), bool)
        used[kept.reshape(-1)] = True
        number = np.cumsum(used) - 1
        points, normals = mesh.vertices[used], mesh.normals[used]
        views = unit(camera.position - points)
        albedo = np.ascontiguousarray(mesh.albedo[used], np.float32)
        colours.append(surface_radiance(points, normals, views, albedo, mesh.finish, lights, density))
        vertices.append(flat[used])
        faces.append((number[kept] + offset).astype(np.int32))
        offset += int(used.sum())
    radiance = np.concatenate(colours) if colours else np.zeros((0, 3), np.float32)
    return np.concatenate(vertices), np.concatenate(faces), radiance


def _near_frame(flat: np.ndarray, size: int) -> np.ndarray:
    margin = 2 + np.abs(flat[:, 4:]).sum(1) + flat[:, raster.RADIUS]
    return ((flat[:, :2] > -margin[:, None]) & (flat[:, :2] < size + margin[:, None])).all(axis=1)


def _occluder(vertices: np.ndarray, faces: np.ndarray, camera: Camera, size: int) -> np.ndarray | None:
    """Depth (size, size) beyond which nothing is visible from any point of the lens; None without a mesh."""
    if len(faces) == 0:
        return None
    depth = raster.depth_map(vertices, faces, size, size)
    reach = 2 + int(np.ceil(np.abs(vertices[:, 4:]).max()))
    return cv2.dilate(depth, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))


def _visible_strands(
    strands: Strands, camera: Camera, hidden: np.ndarray | None, size: int
) -> tuple[Strands, np.ndarray]:
    """Strands that may be partly visible, and their projected points."""
    n, m = strands.points.shape[:2]
    flat = camera.project(strands.points.reshape(-1, 3), strands.radius.reshape(-1))
    seen = _near_frame(flat, size)
    if hidden is not None:
        column = np.clip(flat[:, 0].astype(np.int64), 0, size - 1)
        row = np.clip(flat[:, 1].astype(np.int64), 0, size - 1)
        seen &= flat[:, raster.DEPTH] < hidden[row, column] * 1.0001
    kept = np.flatnonzero(seen.reshape(n, m).any(axis=1))
    tile = (flat.reshape(n, m, 7)[kept, m // 2, :2] // 16).astype(np.int64)
    kept = kept[np.argsort(tile[:, 1] * 4096 + tile[:, 0], kind="stable")]  # by position, for fewer cache misses
    part = Strands(
        strands.points[kept],
        strands.radius[kept],
        np.broadcast_to(strands.albedo, (n, strands.albedo.shape[1], 3))[kept],
        strands.finish,
    )
    return part, flat.reshape(n, m, 7)[kept].reshape(-1, 7)


def _strand_colours(part: Strands, flat: np.ndarray, camera: Camera, lights: Lights, density: Density) -> np.ndarray:
    points = part.points.reshape(-1, 3)
    tangents = unit(np.gradient(part.points, axis=1)).reshape(-1, 3).astype(np.float32)
    views = unit(camera.position - points).astype(np.float32)
    albedo = np.ascontiguousarray(np.broadcast_to(part.albedo, part.points.shape), np.float32).reshape(-1, 3)
    return strand_radiance(points, tangents, views, albedo, part.finish, lights, density)
