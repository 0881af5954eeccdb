"""Realism: photographic composites and hand-drawn trimaps for training on rendered foregrounds.

All random numbers come from a separate generator, so a recipe without `Realism` is unchanged.
"""

from dataclasses import dataclass

import numpy as np

from data.transforms.backdrop import Backdrop, draw_backdrop, read_backdrop, resembling
from data.transforms.camera import Exposure, draw_exposure, expose, spilled
from data.transforms.geometry import Size
from data.transforms.hand_drawn import HALF_WIDTHS, HandDrawn, draw_hand_drawn, hand_drawn_trimap
from runtime.errors import InputError


@dataclass(frozen=True)
class Realism:
    """Probabilities and ranges of the changes to samples.

    Args:
        zoom: smallest and largest factor on the size of a foreground, log-uniform; replaces resizing to 640.
        trimap_width: smallest and largest number of pixels removed from the known regions, log-uniform.
        blur_prob, largest_blur: defocus of the background, with its standard deviation in pixels.
        hue_prob: shifted hue of the background.
        resemblance_prob: background colours moved towards the foreground's.
        spill_prob: light of the background in thin parts of the foreground.
        tone_prob: a gamma for each channel.
        noise_prob, largest_noise: sensor noise, with its standard deviation on the scale 0..1.
        sharpening_prob: an unsharp mask.
        jpeg_prob, lowest_quality: JPEG compression.

    Raises:
        InputError: a setting is out of its range.
    """

    zoom: tuple[float, float] = (0.6, 1.6)
    trimap_width: tuple[float, float] = HALF_WIDTHS
    blur_prob: float = 0.6
    largest_blur: float = 12.0
    hue_prob: float = 0.5
    resemblance_prob: float = 0.35
    spill_prob: float = 0.2
    tone_prob: float = 0.5
    noise_prob: float = 0.6
    largest_noise: float = 0.04
    sharpening_prob: float = 0.25
    jpeg_prob: float = 0.3
    lowest_quality: int = 60

    def __post_init__(self):
        for name in ("zoom", "trimap_width"):
            smallest, largest = getattr(self, name)
            if not 0 < smallest <= largest:
                raise InputError(f"realism.{name}: expected 0 < smallest <= largest, got {smallest}, {largest}")
        for name in (name for name in self.__dataclass_fields__ if name.endswith("_prob")):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"realism.{name}: expected a probability, got {getattr(self, name)}")
        if not self.largest_blur >= 0.5 or not 0.002 <= self.largest_noise <= 1 or not 1 <= self.lowest_quality <= 98:
            raise InputError(
                "realism: expected largest_blur >= 0.5, largest_noise 0.002 to 1 and lowest_quality 1 to 98, got "
                f"{self.largest_blur}, {self.largest_noise} and {self.lowest_quality}"
            )


@dataclass(frozen=True)
class Look:
    """One draw of all that `Realism` describes."""

    zoom: float
    backdrop: Backdrop
    exposure: Exposure
    trimap: HandDrawn

    def background(self, picture: np.ndarray, size: Size, foreground: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Background of `size`, (H, W, 3) float32 in [0, 1], from a (h, w, 3) uint8 picture of any size."""
        background = read_backdrop(picture, size, self.backdrop) / np.float32(255)
        if self.backdrop.resemblance:
            background = resembling(background, foreground, alpha, self.backdrop.resemblance)
        return background

    def foreground(self, foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """The foreground's colours (H, W, 3) float32 in front of this background."""
        if not self.exposure.spill:
            return foreground
        return spilled(foreground, background, alpha, self.exposure.spill)

    def photograph(self, composite: np.ndarray) -> np.ndarray:
        """The composite (H, W, 3) float32 in [0, 1] after the effects of camera and file, as uint8."""
        return expose(composite, self.exposure)

    def draw_trimap(self, alpha: np.ndarray) -> np.ndarray:
        """(H, W) uint8 of 0, 128 and 255 for (H, W) float alpha."""
        return hand_drawn_trimap(alpha, self.trimap)


def draw_look(realism: Realism, rng: np.random.Generator) -> Look:
    """Draw all random numbers of one sample's look, except the noise, which has a seed."""
    smallest, largest = realism.zoom
    return Look(
        zoom=float(smallest * (largest / smallest) ** rng.random()),
        backdrop=draw_backdrop(
            rng, realism.blur_prob, realism.largest_blur, realism.hue_prob, realism.resemblance_prob
        ),
        exposure=draw_exposure(
            rng,
            spill_prob=realism.spill_prob,
            tone_prob=realism.tone_prob,
            noise_prob=realism.noise_prob,
            largest_noise=realism.largest_noise,
            sharpening_prob=realism.sharpening_prob,
            jpeg_prob=realism.jpeg_prob,
            lowest_quality=realism.lowest_quality,
        ),
        trimap=draw_hand_drawn(rng, *realism.trimap_width),
    )
