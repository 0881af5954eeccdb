"""SyntheticPeople: an endless, repeatable segmentation set of person-like figures in front of procedural backgrounds.

A figure has a head with hair, a neck, a torso, and two arms and two legs of two pieces each, in clothes. Other objects
are beside and behind the figures. Their surfaces have the same textures, so the network has to learn shapes.
"""

import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from data.synthetic import layers, shapes, textures
from data.synthetic.photographs import shipped_photographs
from runtime.errors import InputError

SMALLEST_SIZE = 32
FIGURES = (0.06, 0.56, 0.28, 0.1)  # shares of pictures with 0, 1, 2 and 3 figures
CLOSE_UP = 0.2  # share of figures that extend beyond the picture
SKIN = np.array([[236, 200, 176], [214, 164, 132], [176, 122, 90], [126, 82, 58], [84, 56, 42]], np.float32)
HAIR = np.array([[28, 22, 20], [72, 48, 32], [126, 84, 48], [196, 160, 100], [150, 146, 142]], np.float32)
PHOTOGRAPH_SHARE = 0.4  # share of backgrounds that are photographs


@dataclass(frozen=True)
class Figure:
    """Outlines of the parts in pixels of the window, from the rearmost to the front, with their kinds and positions."""

    parts: tuple[tuple[str, list[np.ndarray]], ...]


def draw_figure(rng: np.random.Generator, height: int, width: int) -> Figure:
    """Draw the pose of one figure, whose head and torso are usually in the window.

    Lengths are in eighths of the figure's height, as in drawing by heads.
    """
    close = rng.random() < CLOSE_UP
    unit = height * (rng.uniform(1.2, 2.4) if close else rng.uniform(0.55, 1.05)) / 8
    head = np.array([rng.uniform(0.15, 0.85) * width, unit * rng.uniform(0.6, 1.6) + rng.uniform(0, 0.12) * height])
    lean = rng.normal(0, 0.08)
    stout = rng.uniform(0.85, 1.25)
    down, across = np.array([np.sin(lean), np.cos(lean)]), np.array([np.cos(lean), -np.sin(lean)])
    neck, hips = head + 0.75 * unit * down, head + 3.4 * unit * down
    shoulders = [neck + 0.35 * unit * down + side * 0.85 * stout * unit * across for side in (-1, 1)]
    sitting = rng.random() < 0.2
    legs, shoes, sleeves, hands = [], [], [], []
    for side, shoulder in zip((-1, 1), shoulders, strict=True):
        hip = hips + side * 0.4 * stout * unit * across
        thigh = side * rng.uniform(0.9, 1.4) if sitting else side * rng.uniform(-0.1, 0.35)
        knee = hip + 2.0 * unit * _direction(lean + thigh)
        ankle = knee + 2.0 * unit * _direction(lean + rng.normal(0, 0.12))
        legs += _limb([hip, knee, ankle], [0.5 * stout * unit, 0.36 * unit, 0.24 * unit])
        shoes += _limb([ankle, ankle + unit * np.array([0.45 * side, 0.12])], [0.2 * unit, 0.16 * unit])
        upper = side * np.abs(rng.normal(0.25, 0.5))
        elbow = shoulder + 1.5 * unit * _direction(lean + upper)
        wrist = elbow + 1.3 * unit * _direction(lean + upper + side * rng.normal(0.1, 0.8))
        sleeves += _limb([shoulder, elbow], [0.32 * stout * unit, 0.25 * unit])
        hands += [*_limb([elbow, wrist], [0.22 * unit, 0.15 * unit]), _ellipse(wrist, 0.2 * unit, 0.24 * unit, lean)]
    waist = [hips + side * 0.62 * stout * unit * across for side in (1, -1)]
    torso = np.array([*shoulders, *waist])
    skirt = []
    if rng.random() < 0.25:
        hem = hips + 1.8 * unit * down
        skirt = [np.array([waist[1], waist[0], hem + 1.0 * stout * unit * across, hem - 1.0 * stout * unit * across])]
    face = _ellipse(head, 0.42 * unit, 0.55 * unit, lean)
    hair = [_ellipse(head - 0.16 * unit * down, 0.5 * unit, 0.52 * unit, lean)]
    if rng.random() < 0.4:  # long
        hair += _limb([head, neck + rng.uniform(0, 1.0) * unit * down], [0.48 * unit, 0.5 * unit])
    body = [torso, *_limb(shoulders, [0.32 * unit] * 2)]
    return Figure(
        (
            ("hair", hair),
            ("trousers", legs),
            ("shoes", shoes),
            ("shirt", skirt),
            ("skin", _limb([head, neck + 0.4 * unit * down], [0.24 * unit, 0.28 * unit])),
            ("shirt", body),
            ("skin", hands),
            ("shirt", sleeves),
            ("skin", [face]),
            ("hair", [_ellipse(head - 0.36 * unit * down, 0.42 * unit, 0.26 * unit, lean)]),
        )
    )


class SyntheticPeople(Dataset):
    """Pictures of person-like figures and their exact masks: `dataset[index]` or `dataset[epoch, index]`.

    A sample is a pure function of (seed, epoch, index). Nothing is read or drawn before the first sample.

    Args:
        size: side, or (height, width), of a sample in pixels.
        samples_per_epoch: number of samples in an epoch.
        photographs: whether some backgrounds are crops of the photographs in scikit-image.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(
        self, size: int | tuple[int, int] = 112, samples_per_epoch: int = 1000, seed: int = 0, photographs: bool = True
    ) -> None:
        self.height, self.width = (size, size) if isinstance(size, int) else tuple(size)
        if min(self.height, self.width) < SMALLEST_SIZE:
            raise InputError(f"size: expected sides of at least {SMALLEST_SIZE} pixels, got {size}")
        if samples_per_epoch < 1 or seed < 0:
            raise InputError(f"expected samples_per_epoch >= 1 and seed >= 0, got {samples_per_epoch} and {seed}")
        self.samples_per_epoch, self.seed, self.photographs = samples_per_epoch, seed, photographs

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor | str]:
        """Return image (3, H, W) float32 in [0, 1], mask (H, W) int64 of 0 and 1, and name."""
        epoch, index = key if isinstance(key, tuple | list) else (0, key)
        epoch, index = operator.index(epoch), operator.index(index)
        if not 0 <= index < len(self) or epoch < 0:
            raise IndexError(f"sample {index} of epoch {epoch}: the data set has {len(self)} samples per epoch")
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, index)))
        image, coverage = self._scene(rng)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "mask": torch.from_numpy((coverage > 0.5).astype(np.int64)),
            "name": f"people_{index}" if epoch == 0 else f"people_e{epoch}_{index}",
        }

    def _scene(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The picture (H, W, 3) float32, and the share of each pixel that shows a person (H, W)."""
        picture = self._background(rng)
        for _ in range(int(rng.integers(0, 4))):
            picture = layers.over(self._thing(rng), picture)
        coverage = np.zeros((self.height, self.width), np.float32)
        for _ in range(int(rng.choice(len(FIGURES), p=FIGURES))):
            layer = layers.blurred(self._dressed(rng, draw_figure(rng, self.height, self.width)), rng.uniform(0.2, 0.8))
            picture = layers.over(layer, picture)
            coverage = layer[..., 3] + (1 - layer[..., 3]) * coverage
        image = picture[..., :3] + rng.standard_normal((self.height, self.width, 3), np.float32) * np.float32(
            0.03 * rng.random()
        )
        return image.clip(0, 1).astype(np.float32), coverage

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        photographs = shipped_photographs() if self.photographs else ()
        if photographs and rng.random() < PHOTOGRAPH_SHARE:
            backdrop = textures.photograph(rng, self.height, self.width, photographs)
        else:
            backdrop = self._texture(rng, textures.BACKDROPS)
        backdrop = textures.defocused(backdrop, rng.uniform(0.5, 0.04 * max(self.height, self.width)))
        return layers.layer_of(backdrop, np.ones((self.height, self.width), np.float32))

    def _thing(self, rng: np.random.Generator) -> np.ndarray:
        """A blob, a box or a post, at a random position."""
        radius = min(self.height, self.width) * np.exp(rng.uniform(np.log(0.06), np.log(0.3)))
        kind = rng.integers(3)
        if kind == 0:
            outline = shapes.blob_outline(rng, radius, rng.beta(1.2, 3))
        elif kind == 1:
            outline = shapes.polygon_outline(rng, radius)
        else:
            half = 0.3 * radius
            outline = np.array([[-half, -4 * radius], [half, -4 * radius], [half, 4 * radius], [-half, 4 * radius]])
            outline = shapes.rotated(outline, rng.normal(0, 0.3))
        centre = rng.random(2) * (self.width, self.height)
        surface = self._texture(rng, textures.SURFACES)
        return layers.layer_of(surface, shapes.coverage_of([outline + centre], self.height, self.width))

    def _dressed(self, rng: np.random.Generator, figure: Figure) -> np.ndarray:
        skin, hair = (_shaded(rng, tones[rng.integers(len(tones))], self.height, self.width) for tones in (SKIN, HAIR))
        surfaces = {
            "skin": skin,
            "hair": hair,
            "shirt": self._texture(rng, textures.SURFACES),
            "trousers": self._texture(rng, textures.SURFACES),
            "shoes": _shaded(rng, HAIR[rng.integers(3)], self.height, self.width),
        }
        dressed = np.zeros((self.height, self.width, 4), np.float32)
        for name, outlines in figure.parts:
            if outlines:
                coverage = shapes.coverage_of(outlines, self.height, self.width)
                dressed = layers.over(layers.layer_of(surfaces[name], coverage), dressed)
        return dressed

    def _texture(self, rng: np.random.Generator, weighted) -> np.ndarray:
        return textures.recoloured(rng, textures.pick(rng, weighted)(rng, self.height, self.width))


def _direction(angle: float) -> np.ndarray:
    """Downward direction, rotated by `angle` radians."""
    return np.array([np.sin(angle), np.cos(angle)])


def _ellipse(centre: np.ndarray, across: float, along: float, angle: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return shapes.rotated(np.stack([across * np.cos(turn), along * np.sin(turn)], axis=1), -angle) + centre


def _limb(joints: list[np.ndarray], radii: list[float]) -> list[np.ndarray]:
    """Outlines of a chain of tapered pieces with round joints."""
    outlines = [_ellipse(joint, radius, radius, 0) for joint, radius in zip(joints, radii, strict=True)]
    for first, second, start, end in zip(joints, joints[1:], radii, radii[1:], strict=False):
        along = second - first
        normal = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
        outlines.append(
            np.array([first + start * normal, second + end * normal, second - end * normal, first - start * normal])
        )
    return outlines


def _shaded(rng: np.random.Generator, colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 of one colour under uneven light."""
    noise = textures.fractal_noise(rng, height, width, 0.5, 0.5)[..., None]
    return np.clip(colour * rng.lognormal(0, 0.08, 3) * (0.75 + 0.5 * noise), 0, 255).astype(np.uint8)
