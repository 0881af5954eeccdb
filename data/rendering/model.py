"""Geometry of a rendered object: strands, meshes and how their surfaces reflect light.

Units are the family's own; the scene scales everything to the picture. The z axis points up.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Finish:
    """How a surface answers light.

    Attributes:
        specular: strength of the mirror-like lobe (the R lobe of a strand).
        exponent: sharpness of that lobe; 10 is satin, 200 is polished.
        tinted: strength of the second, coloured lobe (TRT of a strand); a mesh multiplies `specular` by albedo with it.
        transmitted: share of light from behind that comes through, coloured (TT of a strand, a leaf against the sky).
        density: how strongly it shadows what lies behind, as a multiple of its projected area.
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
    """Triangles with a colour at each vertex; both sides are seen.

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
        facing: direction from the object towards the camera, (3,), or None for any side.
        spread: how far, in radians, the camera may leave `facing`.
        elevation: lowest and highest camera elevation, radians, where `facing` is None.
        any_roll: whether the picture may be turned freely about the view axis.
        closest: the largest zoom, as a multiple of the object filling the frame.
        rooted: "bottom" or "top": the border of the frame that it usually comes out of; None, no border.
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
