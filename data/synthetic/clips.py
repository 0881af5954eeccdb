"""Procedural clips: an object that moves and turns over a moving background, with the exact alpha of each frame."""

import operator
from typing import NamedTuple

import cv2
import numpy as np

from data.synthetic import layers, textures
from data.synthetic.families import FAMILIES
from data.synthetic.scene import draw_object
from runtime.errors import InputError, require_choice

MARGIN = 0.25  # share of the shorter side that is drawn around the picture, so that motion reveals only drawn parts


class ClipFrame(NamedTuple):
    """`image` (H, W, 3) and `alpha` (H, W), uint8."""

    image: np.ndarray
    alpha: np.ndarray


class SyntheticClip:
    """Frames of one clip; each is a pure function of the settings and its index.

    The object's layer is moved as premultiplied colour, so image = alpha * fg + (1 - alpha) * bg holds in each frame up
    to sensor noise and 8 bits. Object and background swing about their positions, as in front of a hand-held camera.

    Args:
        size: (height, width) in pixels.
        frames: number of frames.
        family: name in `FAMILIES` of the object.
        motion: largest motion of the object from a frame to the next, in pixels; 0 for a still clip.
        turn: largest rotation from a frame to the next, in degrees.
        pan: motion of the background in pixels.
        noise: standard deviation of the sensor noise, drawn for each frame, as a fraction of white.
        cut_at: index of the frame that begins another scene, of `seed` + 1.
        share: size of the object as a share of the picture's height and width, around its centre.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        size: tuple[int, int] = (240, 320),
        frames: int = 24,
        seed: int = 0,
        family: str = "hair",
        motion: float = 1.5,
        turn: float = 0.5,
        pan: float = 0.8,
        noise: float = 0.01,
        cut_at: int | None = None,
        share: float = 1.0,
    ) -> None:
        require_choice("family", family, FAMILIES)
        for name, value, lowest in (("frames", frames, 1), ("motion", motion, 0), ("noise", noise, 0), ("pan", pan, 0)):
            if value < lowest:
                raise InputError(f"{name}: expected at least {lowest}, got {value}")
        self.size, self.frames, self.seed, self.family = size, frames, seed, family
        if not 0 < share <= 1:
            raise InputError(f"share: expected more than 0 and at most 1, got {share}")
        self.motion, self.turn, self.pan, self.noise, self.cut_at, self.share = motion, turn, pan, noise, cut_at, share
        self._scenes: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> ClipFrame:
        index = operator.index(index)
        if not 0 <= index < self.frames:
            raise IndexError(f"frame {index}: the clip has {self.frames}")
        seed = self.seed + (self.cut_at is not None and index >= self.cut_at)
        layer, background = self._scene(seed)
        layer = _moved(layer, *self._placement(index), self.size)
        shift = self.pan * _swing(index, 31.0)
        background = _moved(background, 0.6 * shift, 0.8 * shift, 0, self.size)
        alpha = np.clip(layer[..., 3], 0, 1)
        image = layer[..., :3] + layers.widened(1 - alpha) * background
        grain = np.random.default_rng((self.seed, index, 1)).standard_normal(image.shape, np.float32)
        image = np.clip(image + np.float32(self.noise) * grain, 0, 1)
        return ClipFrame(np.rint(255 * image).astype(np.uint8), np.rint(255 * alpha).astype(np.uint8))

    def _placement(self, index: int) -> tuple[float, float, float]:
        """Displacement to the right and down in pixels, and rotation in degrees, since the first frame."""
        return (
            self.motion * _swing(index, 40.0),
            0.5 * self.motion * _swing(index, 23.0),
            self.turn * _swing(index, 50.0),
        )

    def _shared(self, window: tuple[int, int]) -> tuple[int, int]:
        return round(self.share * window[0]), round(self.share * window[1])

    def _scene(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if seed not in self._scenes:
            rng = np.random.default_rng((seed, 0))
            margin = round(MARGIN * min(self.size))
            window = self.size[0] + 2 * margin, self.size[1] + 2 * margin
            layer = _in_the_middle(draw_object(rng, self.family, *[self._shared(window)] * 2)[0], window)
            background = textures.recoloured(rng, textures.pick(rng, textures.BACKDROPS)(rng, *window))
            self._scenes = {seed: (layer, background.astype(np.float32) / 255)}  # one at a time
        return self._scenes[seed]


def _in_the_middle(layer: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """A layer (h, w, 4) in a window (H, W) that is empty around it."""
    top, left = ((side - own) // 2 for side, own in zip(window, layer.shape, strict=False))
    around = np.zeros((*window, layer.shape[2]), layer.dtype)
    around[top : top + layer.shape[0], left : left + layer.shape[1]] = layer
    return around


def _swing(index: int, period: float) -> float:
    """A swing whose fastest step between frames is 1. It is 0 at frame 0 and grows first."""
    return period / (2 * np.pi) * np.sin(2 * np.pi * index / period)


def _moved(picture: np.ndarray, right: float, down: float, degrees: float, size: tuple[int, int]) -> np.ndarray:
    """Middle of a picture with a margin, rotated about its centre and moved. (H, W, C) float32."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += (right - (width - size[1]) / 2, down - (height - size[0]) / 2)
    return cv2.warpAffine(picture, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
