"""Closed bodies: implicit functions of balls and boxes turned into meshes, and points scattered over meshes."""

from collections.abc import Callable

import numpy as np
from skimage.measure import marching_cubes

from data.rendering.curves import unit, vertex_normals

Implicit = Callable[[np.ndarray], np.ndarray]


def ellipsoids(
    centres: np.ndarray, radii: np.ndarray, matrices: np.ndarray | None = None, blend: float = 0.12
) -> Implicit:
    """A smooth union of ellipsoids: negative inside, of about unit slope near the surface.

    Args:
        centres, radii: (k, 3).
        matrices: (k, 3, 3) rotations, or None.
        blend: width of the rounding at joints, in units of length.
    """

    def value(points: np.ndarray) -> np.ndarray:
        total = 0.0
        for i in range(len(centres)):
            local = points - centres[i]
            if matrices is not None:
                local = local @ matrices[i]
            distance = (np.linalg.norm(local / radii[i], axis=-1) - 1) * radii[i].min()
            total = total + np.exp(-np.clip(distance / blend, -40, 40))
        return -blend * np.log(np.maximum(total, 1e-30))

    return value


def meshed(implicit: Implicit, low: np.ndarray, high: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of the zero surface within a box, `cells` along its longest side."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    cell = (high - low).max() / cells
    shape = np.ceil((high - low) / cell).astype(int) + 1
    grid = np.stack(
        np.meshgrid(*(start + cell * np.arange(n) for start, n in zip(low, shape, strict=True)), indexing="ij"), -1
    )
    vertices, faces, _, _ = marching_cubes(implicit(grid), 0.0)
    return low + cell * vertices, faces.astype(np.int32)


def scattered(
    rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, count: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`count` points spread evenly over a mesh and their unit normals, (count, 3) each.

    Args:
        weight: (F,) density on each face; None for an even density.
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if weight is not None:
        area = area * weight
    # Stratification along the sum of areas is more even than independent draws.
    at = (np.arange(count) + rng.random(count)) / count * area.sum()
    face = np.minimum(np.searchsorted(np.cumsum(area), at), len(faces) - 1)
    face = rng.permutation(face)
    r, s = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    weights = np.concatenate([1 - r, r * (1 - s), r * s], axis=1)
    normals = vertex_normals(vertices, faces)
    points = sum(weights[:, i : i + 1] * vertices[faces[face, i]] for i in range(3))
    return points, unit(sum(weights[:, i : i + 1] * normals[faces[face, i]] for i in range(3)))


def surface_area(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Area of a mesh."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def outwards(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """`faces` with the order in which the normals of a closed mesh point outwards."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    volume = (np.cross(a - vertices.mean(0), b - vertices.mean(0)) * (c - vertices.mean(0))).sum()
    return faces if volume > 0 else faces[:, ::-1]
