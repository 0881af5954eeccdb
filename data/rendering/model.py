"""Geometry of a rendered object: strands, meshes and the reflection of their surfaces.

Each family has its own unit of length; the scene scales the object to the picture. The z axis points up.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Finish:
    """Reflection of a surface.

    Attributes:
        specular: strength of the mirror-like lobe (the R lobe of a strand).
        exponent: sharpness of that lobe; 10 is satin, 200 is polished.
        tinted: strength of the second, coloured lobe (TRT of a strand); for a mesh, the share of albedo in `specular`.
        transmitted: share of transmitted, coloured light from behind (TT of a strand, a leaf against the sky).
        density: strength of its shadow, as a multiple of its projected area.
    """

    specular: float = 0.1
    exponent: float = 40.0
    tinted: float = 0.2
    transmitted: float = 0.6
    density: float = 1.0


@dataclass(frozen=True)
class Strands:
    """Round, tapered fibres.

    Attributes:
        points: (n, m, 3) polylines, root first.
        radius: (n, m).
        albedo: (n, m, 3), or (n, 1, 3) for strands of one colour; linear RGB in [0, 1].
    """

    points: np.ndarray
    radius: np.ndarray
    albedo: np.ndarray
    finish: Finish = Finish()


@dataclass(frozen=True)
class Mesh:
    """Triangles with a colour at each vertex; both sides are visible.

    Attributes:
        vertices: (V, 3). faces: (F, 3) indices. albedo: (V, 3) linear RGB in [0, 1].
        normals: (V, 3), or None to compute them from the faces.
    """

    vertices: np.ndarray
    faces: np.ndarray
    albedo: np.ndarray
    finish: Finish = Finish(transmitted=0.0, tinted=0.0, density=4.0)
    normals: np.ndarray | None = None


@dataclass(frozen=True)
class Model:
    """An object of one or more parts.

    Attributes:
        facing: direction from the object to the camera, (3,), or None for any side.
        spread: largest angle in radians between the camera and `facing`.
        elevation: lowest and highest elevation of the camera in radians, if `facing` is None.
        any_roll: whether the picture may be rotated freely about the view axis.
        closest: largest zoom, as a multiple of that at which the object fills the frame.
        rooted: "bottom" or "top" for the border of the frame from which it usually extends; None for no border.
    """

    strands: list[Strands] = field(default_factory=list)
    meshes: list[Mesh] = field(default_factory=list)
    facing: np.ndarray | None = None
    spread: float = 0.5
    elevation: tuple[float, float] = (-0.3, 0.8)
    any_roll: bool = False
    closest: float = 2.2
    rooted: str | None = None


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh of several that share a finish (that of the first)."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    normals = None if any(mesh.normals is None for mesh in meshes) else np.concatenate([m.normals for m in meshes])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
        np.concatenate([mesh.albedo for mesh in meshes]),
        meshes[0].finish,
        normals,
    )
