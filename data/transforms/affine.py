"""Random rotation, scale, shear and flips about the centre, the same for a foreground and its alpha."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from data.transforms.geometry import Size
from runtime.errors import InputError


@dataclass(frozen=True)
class AffineRange:
    """Ranges for `draw_affine`. The defaults are the DIM recipe of Yaoyi-Li/GCA-Matting and hustvl/ViTMatte.

    Args:
        rotation: largest angle to either side in degrees.
        rotation_min_side: smallest longer side of pictures that are rotated.
        scale: smallest and largest scale, drawn for x and y independently; 2 is twice as large.
        shear: largest shear to either side in degrees.
        flip_prob: probability of mirroring for each axis independently, or two probabilities, for left to right and for
            top to bottom.

    Raises:
        InputError: a setting is out of its range.
    """

    rotation: float = 30.0
    rotation_min_side: int = 1024
    scale: tuple[float, float] = (0.8, 1.25)
    shear: float = 10.0
    flip_prob: float | Sequence[float] = 0.5

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale: expected 0 < smallest <= largest, got {tuple(self.scale)}")
        if not (self.rotation >= 0 and 0 <= self.shear < 90):
            raise InputError(f"expected rotation >= 0 and 0 <= shear < 90, got {self.rotation}, {self.shear}")
        if len(self.flip_probs) != 2 or not all(0 <= prob <= 1 for prob in self.flip_probs):
            raise InputError(f"flip_prob: expected a probability, or two of them, got {self.flip_prob}")

    @property
    def keeps_frame(self) -> bool:
        """Return whether a picture keeps its frame, except for mirroring."""
        return self.rotation == 0 and self.shear == 0 and tuple(self.scale) == (1, 1)

    @property
    def flip_probs(self) -> tuple[float, ...]:
        """Probabilities of mirroring left to right and top to bottom."""
        return tuple(self.flip_prob) if isinstance(self.flip_prob, Sequence) else (self.flip_prob, self.flip_prob)


@dataclass(frozen=True)
class Affine:
    """One draw: `angle` and `shear` in degrees, `scale` and `flip` for (x, y)."""

    angle: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    flip: tuple[bool, bool] = (False, False)


def draw_affine(rng: np.random.Generator, ranges: AffineRange) -> Affine:
    """Draw one transform. `affine_for` decides whether the picture is large enough for the rotation."""
    return Affine(
        angle=rng.uniform(-ranges.rotation, ranges.rotation),
        scale=(rng.uniform(*ranges.scale), rng.uniform(*ranges.scale)),
        shear=rng.uniform(-ranges.shear, ranges.shear),
        flip=tuple(bool(rng.random() < prob) for prob in ranges.flip_probs),
    )


def affine_for(drawn: Affine, ranges: AffineRange, size: Size) -> Affine:
    """The drawn transform for a picture of `size`, without rotation if the picture is too small."""
    if max(size) >= ranges.rotation_min_side:
        return drawn
    return Affine(0.0, drawn.scale, drawn.shear, drawn.flip)


def affine_map(affine: Affine, size: Size) -> np.ndarray:
    """Pixel map of `affine` on a canvas of unchanged `size`: output pixel to input pixel, (3, 3) float64.

    The composition is that of the recipe: the inverse of rotation and shear, whose rows are then divided by scale and
    flip. The centre is (w + 1) / 2, (h + 1) / 2 as published, one pixel beyond the middle of the pixel grid. It is kept
    so that the geometry is the published one.
    """
    angle, shear = radians(affine.angle), radians(affine.shear)
    row_x, row_y = ((-1 if flip else 1) / scale for flip, scale in zip(affine.flip, affine.scale, strict=True))
    linear = np.array(
        [
            [row_x * cos(angle), row_x * sin(angle + shear)],
            [-row_y * sin(angle), row_y * cos(angle + shear)],
        ]
    ) / cos(shear)
    centre = np.array([(size[1] + 1) / 2, (size[0] + 1) / 2])
    pixel_map = np.eye(3)
    pixel_map[:2, :2] = linear
    pixel_map[:2, 2] = centre - linear @ centre
    return pixel_map
