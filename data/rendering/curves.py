"""Curves and surfaces along them: growth, resampling, frames, tubes and ribbons.

Curves are (n, m, 3): n polylines of m points.
"""

from collections.abc import Callable

import numpy as np

from data.rendering.model import Finish, Mesh

Field = Callable[[np.ndarray], np.ndarray]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length 1; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def smooth_field(rng: np.random.Generator, frequency: float, channels: int = 1, waves: int = 6) -> Field:
    """A smooth random function of points (..., 3) to (..., channels), of about unit variance.

    It is a sum of sine waves whose angular frequencies are about `frequency`.
    """
    directions = unit(rng.normal(size=(channels, waves, 3))) * frequency * rng.uniform(0.6, 1.5, (channels, waves, 1))
    phases = rng.uniform(0, 2 * np.pi, (channels, waves))

    def field(points: np.ndarray) -> np.ndarray:
        out = np.empty((*points.shape[:-1], channels))
        for c in range(channels):
            out[..., c] = np.sin(points @ directions[c].T + phases[c]).sum(-1) * np.sqrt(2 / waves)
        return out

    return field


def grown(
    rng: np.random.Generator,
    roots: np.ndarray,
    headings: np.ndarray,
    lengths: np.ndarray,
    points: int,
    pull: np.ndarray | None = None,
    bend: float = 0.0,
    keep_outside: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Curves that start at (n, 3) `roots` along `headings` and bend evenly: (n, points, 3).

    Args:
        lengths: (n,) lengths.
        pull: (3,) or (n, 3), added to the unit heading over the whole length, such as gravity or wind.
        bend: standard deviation in radians of each curve's turn to a random side over its length.
        keep_outside: function that moves points (n, 3) out of a body.
    """
    n, steps = len(roots), points - 1
    heading = unit(headings)
    turn = rng.normal(0, bend, (n, 3)) if bend else np.zeros((n, 3))
    drift = rng.normal(0, bend, (n, 3)) if bend else np.zeros((n, 3))
    step = lengths[:, None] / steps
    out = np.empty((n, points, 3))
    out[:, 0] = roots
    for k in range(1, points):
        change = turn + drift * (2 * k / steps - 1)
        if pull is not None:
            change = change + pull
        heading = unit(heading + change / steps)
        out[:, k] = out[:, k - 1] + step * heading
        if keep_outside is not None:
            out[:, k] = keep_outside(out[:, k])
            heading = unit(0.3 * heading + 0.7 * unit(out[:, k] - out[:, k - 1]))
    return out


def frames(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tangents and two normals (n, m, 3) with minimal rotation along each curve."""
    tangents = unit(np.gradient(curves, axis=1))
    first = np.empty_like(curves)
    least = np.eye(3)[np.argmin(np.abs(tangents[:, 0]), axis=1)]
    normal = unit(np.cross(tangents[:, 0], least))
    first[:, 0] = normal
    for k in range(1, curves.shape[1]):
        normal = unit(normal - (normal * tangents[:, k]).sum(-1, keepdims=True) * tangents[:, k])
        first[:, k] = normal
    return tangents, first, np.cross(tangents, first)


def resampled(curves: np.ndarray, points: int) -> np.ndarray:
    """Catmull-Rom curves through the points of `curves`, evenly spaced in parameter: (n, points, 3)."""
    padded = np.concatenate([2 * curves[:, :1] - curves[:, 1:2], curves, 2 * curves[:, -1:] - curves[:, -2:-1]], axis=1)
    at = np.linspace(0, curves.shape[1] - 1, points)
    k = np.minimum(at.astype(int), curves.shape[1] - 2)
    t = (at - k)[None, :, None]
    a, b, c, d = (padded[:, k + i] for i in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def even(curves: np.ndarray, points: int) -> np.ndarray:
    """Curves resampled linearly at even arc lengths: (n, points, 3)."""
    steps = np.linalg.norm(np.diff(curves, axis=1), axis=-1)
    along = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(steps, axis=1)], axis=1)
    out = np.empty((len(curves), points, 3))
    for i in range(len(curves)):
        at = np.linspace(0, along[i, -1], points)
        for c in range(3):
            out[i, :, c] = np.interp(at, along[i], curves[i, :, c])
    return out


def helices(curves: np.ndarray, radius: np.ndarray | float, turns: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Curves wound around `curves`: radius (n, m) or a number, `turns` (n,) over the length, `phase` (n,) radians."""
    _, first, second = frames(curves)
    angle = phase[:, None] + 2 * np.pi * turns[:, None] * np.linspace(0, 1, curves.shape[1])
    radius = np.broadcast_to(radius, angle.shape)
    return curves + (radius * np.cos(angle))[..., None] * first + (radius * np.sin(angle))[..., None] * second


def grid_faces(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Triangles of a rows x columns grid of vertices in row order; `closed` joins the last column to the first."""
    down, right = np.arange(rows - 1)[:, None], np.arange(columns if closed else columns - 1)[None]
    a, b = down * columns + right, down * columns + (right + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def sphere(columns: int = 8, rows: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3), which are their own normals, and faces of a unit ball."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, columns + 1), np.linspace(0, np.pi, rows))
    vertices = np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(-1, 3)
    return vertices, grid_faces(rows, columns + 1)


def repeated_faces(faces: np.ndarray, vertices: int, copies: int) -> np.ndarray:
    """`faces` of `copies` equal meshes of `vertices` each, joined."""
    return (faces[None] + vertices * np.arange(copies)[:, None, None]).reshape(-1, 3)


def tubes(curves: np.ndarray, radius: np.ndarray, albedo: np.ndarray, sides: int, finish: Finish) -> Mesh:
    """Round tubes along (n, m, 3) curves; `radius` (n, m), `albedo` broadcasts to (n, m, 3)."""
    n, m = curves.shape[:2]
    _, first, second = frames(curves)
    angle = 2 * np.pi * np.arange(sides) / sides
    normals = np.cos(angle)[:, None] * first[:, :, None] + np.sin(angle)[:, None] * second[:, :, None]  # (n, m, s, 3)
    vertices = curves[:, :, None] + radius[:, :, None, None] * normals
    faces = repeated_faces(grid_faces(m, sides, closed=True), m * sides, n)
    colours = np.broadcast_to(albedo, (n, m, 3))[:, :, None].repeat(sides, axis=2)
    return Mesh(vertices.reshape(-1, 3), faces, colours.reshape(-1, 3), finish, normals.reshape(-1, 3))


def ribbons(
    curves: np.ndarray, side: np.ndarray, width: np.ndarray, albedo: np.ndarray, finish: Finish, across: int = 3,
    fold: np.ndarray | float = 0.0,
) -> Mesh:  # fmt: skip
    """Flat bands along (n, m, 3) curves.

    Args:
        side: (n, 3) or (n, m, 3) directions across the band.
        width: (n, m) half widths.
        albedo: broadcasts to (n, m, across, 3).
        across: vertices across the band.
        fold: height of the edges above the middle, as a share of the half width.
    """
    n, m = curves.shape[:2]
    tangents = unit(np.gradient(curves, axis=1))
    side = np.broadcast_to(side if side.ndim == 3 else side[:, None], curves.shape)
    side = unit(side - (side * tangents).sum(-1, keepdims=True) * tangents)
    up = np.cross(side, tangents)
    s = np.linspace(-1, 1, across)
    rise = np.abs(s)[None, None, :] * np.reshape(fold, (-1, 1, 1))
    offsets = s[:, None] * side[:, :, None] + rise[..., None] * up[:, :, None]
    vertices = curves[:, :, None] + width[:, :, None, None] * offsets  # (n, m, across, 3)
    faces = repeated_faces(grid_faces(m, across), m * across, n)
    colours = np.broadcast_to(albedo, (n, m, across, 3))
    return Mesh(vertices.reshape(-1, 3), faces, colours.reshape(-1, 3), finish)


def rotation(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (n, 3, 3) about unit axes (n, 3) by angles (n,): Rodrigues' formula."""
    x, y, z = axis.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    angle = np.reshape(angle, (-1, 1, 1))
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)


def facing(direction: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Matrices (n, 3, 3) whose columns are x = across, y = unit `direction` (n, 3), z near `up` (n, 3) or (3,)."""
    y = unit(direction)
    x = np.cross(y, np.broadcast_to(up, y.shape))
    x = np.where(np.linalg.norm(x, axis=-1, keepdims=True) < 1e-6, np.cross(y, [1.0, 0.1, 0.2]), x)
    x = unit(x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def placed(prototype: Mesh, matrices: np.ndarray, positions: np.ndarray, albedo: np.ndarray | None = None) -> Mesh:
    """Copies of one mesh: vertices v become matrices (n, 3, 3) v + positions (n, 3).

    Args:
        albedo: (n, V, 3), or (n, 1, 3) factors on the prototype's colours; None for the prototype's colours.
    """
    n, count = len(positions), len(prototype.vertices)
    vertices = np.einsum("nij,vj->nvi", matrices, prototype.vertices) + positions[:, None]
    colours = np.broadcast_to(prototype.albedo, (n, count, 3))
    if albedo is not None:
        colours = colours * albedo if albedo.shape[1] == 1 else albedo
    faces = repeated_faces(prototype.faces, count, n)
    return Mesh(vertices.reshape(-1, 3), faces, colours.reshape(-1, 3), prototype.finish)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): the sum of the adjacent faces' normals, weighted by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    total = np.stack(
        [sum(np.bincount(faces[:, i], normals[:, q], len(vertices)) for i in range(3)) for q in range(3)], axis=1
    )
    return unit(total)
