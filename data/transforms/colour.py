"""Hue, saturation and value jitter of a foreground."""

from dataclasses import dataclass

import cv2
import numpy as np

HUE_RANGE = 40  # degrees; whole numbers in -40..39


@dataclass(frozen=True)
class ColourJitter:
    """One draw: `hue` in whole degrees, `saturation` and `value` in [-1, 1), scaled by the picture's own mean."""

    hue: int = 0
    saturation: float = 0.0
    value: float = 0.0


def draw_colour_jitter(rng: np.random.Generator) -> ColourJitter:
    """Draw the jitter of the DIM recipe (Yaoyi-Li/GCA-Matting)."""
    return ColourJitter(int(rng.integers(-HUE_RANGE, HUE_RANGE)), rng.uniform(-1, 1), rng.uniform(-1, 1))


def jitter_colour(foreground: np.ndarray, alpha: np.ndarray, jitter: ColourJitter) -> np.ndarray:
    """Return a jittered copy of an (H, W, 3) float32 RGB foreground in [0, 1].

    Saturation and value move by the draw times (1.1 - mean) / 10, their mean taken where `alpha` (H, W) > 0: a dull
    foreground moves further than a vivid one. What leaves [0, 1] is reflected back. A foreground that is nowhere
    visible comes back as it is.
    """
    visible = (alpha > 0).astype(np.float32)
    if not visible.any():
        return foreground.copy()
    hue, saturation, value = cv2.split(cv2.cvtColor(foreground, cv2.COLOR_RGB2HSV))
    hue += np.float32(jitter.hue)
    hue += np.float32(360) * (hue < 0)
    hue -= np.float32(360) * (hue >= 360)
    _shift_inplace(saturation, visible, jitter.saturation)
    _shift_inplace(value, visible, jitter.value)
    return cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)


def _shift_inplace(channel: np.ndarray, visible: np.ndarray, draw: float) -> None:
    mean = float(np.vdot(channel, visible)) / np.count_nonzero(visible)
    channel += np.float32(draw * (1.1 - mean) / 10)
    np.abs(channel, out=channel)
    np.minimum(channel, 2 - channel, out=channel)  # the reflection at 1
