"""Effects of cameras and files on a composite but not on its alpha: spilled light, tone, noise, sharpening, JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np

SPILL_REACH = 12.0  # pixels over which light from the background is averaged
SHARPENED_OVER = 1.0  # standard deviation of the unsharp mask in pixels
LARGEST_TONE = 0.3  # largest logarithm of gamma
LARGEST_TINT = 0.06  # largest difference of the logarithm of gamma between channels


@dataclass(frozen=True)
class Exposure:
    """One draw; the defaults change nothing.

    Args:
        spill: share of the background's light in the foreground's colour where alpha is close to 0.
        gammas: exponent of each channel.
        noise: standard deviation of the sensor noise on the scale 0..1.
        grain: standard deviation in pixels of the smoothing of the noise, 0 for none.
        sharpening: amount of the unsharp mask.
        jpeg_quality: 1..100, None for none.
        noise_seed: seed of the noise.
    """

    spill: float = 0.0
    gammas: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0
    grain: float = 0.0
    sharpening: float = 0.0
    jpeg_quality: int | None = None
    noise_seed: int = 0


def draw_exposure(
    rng: np.random.Generator,
    spill_prob: float,
    tone_prob: float,
    noise_prob: float,
    largest_noise: float,
    sharpening_prob: float,
    jpeg_prob: float,
    lowest_quality: int,
) -> Exposure:
    """Draw each effect with its probability. The number of draws does not depend on the settings."""
    has_spill, has_tone, has_noise, has_sharpening, has_jpeg, is_grain = rng.random(6)
    spill, tone, noise, grain, sharpening, quality = rng.random(6)
    tints = rng.uniform(-LARGEST_TINT, LARGEST_TINT, 3)
    seed = int(rng.integers(2**32))
    gammas = np.exp(LARGEST_TONE * (2 * tone - 1) + tints) if has_tone < tone_prob else np.ones(3)
    return Exposure(
        spill=0.3 * spill if has_spill < spill_prob else 0.0,
        gammas=tuple(gammas.tolist()),
        noise=float(0.002 * (largest_noise / 0.002) ** noise) if has_noise < noise_prob else 0.0,
        grain=0.4 + 0.6 * grain if is_grain < 0.5 else 0.0,
        sharpening=0.2 + 0.8 * sharpening if has_sharpening < sharpening_prob else 0.0,
        jpeg_quality=int(lowest_quality + (99 - lowest_quality) * quality) if has_jpeg < jpeg_prob else None,
        noise_seed=seed,
    )


def spilled(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray, share: float) -> np.ndarray:
    """Mix light of the surrounding background into the foreground's colour, more where alpha is lower.

    Args:
        foreground, background: (H, W, 3) float32.
        alpha: (H, W) float32 in [0, 1].
        share: share of the background in the colour where alpha is 0; elsewhere 1 - alpha times this share.
    """
    height, width = alpha.shape
    reach = max(1, int(SPILL_REACH))
    small = cv2.resize(background, (max(1, width // reach), max(1, height // reach)), interpolation=cv2.INTER_AREA)
    light = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    weight = cv2.merge([share * (1 - alpha)] * 3)
    return foreground + weight * (light - foreground)


def expose(image: np.ndarray, drawn: Exposure) -> np.ndarray:
    """Apply tone, noise, sharpening and JPEG to an (H, W, 3) float32 image in [0, 1]; returns uint8 levels."""
    levels = cv2.convertScaleAbs(image, alpha=255)
    if drawn.gammas != (1.0, 1.0, 1.0):
        levels = cv2.LUT(levels, tone_table(drawn.gammas))
    if drawn.noise:
        levels = noisy(levels, drawn)
    if drawn.sharpening:
        blurred = cv2.GaussianBlur(levels, (0, 0), SHARPENED_OVER)
        levels = cv2.addWeighted(levels, 1 + drawn.sharpening, blurred, -drawn.sharpening, 0)
    if drawn.jpeg_quality is not None:
        levels = through_jpeg(levels, drawn.jpeg_quality)
    return levels


def tone_table(gammas: tuple[float, float, float]) -> np.ndarray:
    """(256, 1, 3) uint8: level 255 * (v / 255) ** gamma of each channel."""
    ramp = np.arange(256)[:, None] / 255
    return np.rint(255 * ramp ** np.array(gammas)).astype(np.uint8)[:, None]


def noisy(levels: np.ndarray, drawn: Exposure) -> np.ndarray:
    """Add Gaussian noise to (H, W, 3) uint8 levels; smoothed noise keeps its standard deviation."""
    noise = np.random.default_rng(drawn.noise_seed).standard_normal(levels.shape, np.float32)
    if drawn.grain:
        noise = cv2.GaussianBlur(noise, (0, 0), drawn.grain)
        noise /= noise.std()
    noise *= np.float32(255 * drawn.noise)
    return cv2.add(levels, noise, dtype=cv2.CV_8U)


def through_jpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode (H, W, 3) uint8 RGB as JPEG."""
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(levels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
