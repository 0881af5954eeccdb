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

    Saturation and value change by the draw times (1.1 - mean) / 10, with the mean over pixels where `alpha` (H, W) > 0,
    so that a dull foreground changes more than a vivid one. Values outside [0, 1] are reflected. A foreground without
    visible pixels is unchanged.
    """
    visible = (alpha > 0).view(np.uint8)
    if not visible.any():
        return foreground.copy()
    hsv = cv2.cvtColor(foreground, cv2.COLOR_RGB2HSV)
    means = cv2.mean(hsv, mask=visible)
    saturation, value = (
        draw * (1.1 - mean) / 10 for draw, mean in ((jitter.saturation, means[1]), (jitter.value, means[2]))
    )
    cv2.add(hsv, (jitter.hue % 360, saturation, value, 0), dst=hsv)  # hues above 360 are interpreted modulo 360
    np.abs(hsv, out=hsv)
    cv2.min(hsv, cv2.subtract((np.inf, 2, 2, 0), hsv), dst=hsv)  # reflection at 1, not for the hue
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv)
