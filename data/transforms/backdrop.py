"""Variation of backgrounds: a window of the picture, mirrored, recoloured, defocused, and with colours like the
foreground's, which makes matting harder."""

from dataclasses import dataclass

import cv2
import numpy as np

from data.transforms.geometry import Size

SMALLEST_WINDOW = 96  # pixels of the file; fewer pixels, enlarged to a crop, would be blurred
SHARP_UP_TO = 2.0  # pixels of blur above which the picture is reduced first, which is cheaper and equally good
STEEPEST = 2.0  # largest factor on the contrast


@dataclass(frozen=True)
class Backdrop:
    """One draw.

    Args:
        window: size of the window on a logarithmic scale, from 0 for the smallest to 1 for the largest in the file.
        place: (vertical, horizontal) position of the window, in [0, 1).
        flip: whether it is mirrored.
        hue: shift in whole degrees.
        blur: standard deviation of the defocus in pixels of the crop, 0 for none.
        resemblance: shift from the background's mean and contrast towards the foreground's, in [0, 1].
    """

    window: float = 1.0
    place: tuple[float, float] = (0.5, 0.5)
    flip: bool = False
    hue: int = 0
    blur: float = 0.0
    resemblance: float = 0.0


def draw_backdrop(
    rng: np.random.Generator, blur_prob: float, largest_blur: float, hue_prob: float, resemblance_prob: float
) -> Backdrop:
    """Draw a window and a mirroring, and with their probabilities a hue, a blur up to `largest_blur`, a resemblance.

    The number of draws does not depend on the settings."""
    window, row, column, flip, hue, has_hue, blur, has_blur, resemblance, has_resemblance = rng.random(10)
    return Backdrop(
        window=window,
        place=(row, column),
        flip=bool(flip < 0.5),
        hue=int(360 * hue) if has_hue < hue_prob else 0,
        blur=float(0.5 * (largest_blur / 0.5) ** blur) if has_blur < blur_prob else 0.0,
        resemblance=float(0.3 + 0.7 * resemblance) if has_resemblance < resemblance_prob else 0.0,
    )


def read_backdrop(picture: np.ndarray, size: Size, drawn: Backdrop) -> np.ndarray:
    """Read the drawn window of an (H, W, 3) uint8 `picture` at `size`, uint8, with its proportions.

    The window is at least 96 pixels high and wide if the picture is, and at most the whole picture.
    """
    height, width = picture.shape[:2]
    largest = min(height / size[0], width / size[1])  # pixels of the picture per pixel of the crop
    smallest = min(largest, SMALLEST_WINDOW / min(size))
    ratio = smallest * (largest / smallest) ** drawn.window
    rows, columns = (max(1, round(length * ratio)) for length in size)
    top, left = int(drawn.place[0] * (height - rows + 1)), int(drawn.place[1] * (width - columns + 1))
    window = picture[top : top + rows, left : left + columns]
    resized = cv2.resize(window, size[::-1], interpolation=cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR)
    if drawn.flip:
        resized = cv2.flip(resized, 1)
    if drawn.hue:
        resized = shift_hue(resized, drawn.hue)
    return defocus(resized, drawn.blur) if drawn.blur else resized


def shift_hue(picture: np.ndarray, degrees: int) -> np.ndarray:
    """Shift the hue of an (H, W, 3) uint8 picture. Grays do not change."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(degrees % 360 * 256 / 360) % 256)  # a byte is a full turn
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=hsv)


def defocus(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an (H, W, 3) uint8 picture; a wide blur is computed on a reduced copy."""
    factor = max(1, int(sigma / SHARP_UP_TO))
    if factor == 1:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / factor), (width, height), interpolation=cv2.INTER_LINEAR)


def resembling(background: np.ndarray, foreground: np.ndarray, alpha: np.ndarray, share: float) -> np.ndarray:
    """Move the background's mean and contrast of each channel towards those of the visible foreground.

    Args:
        background, foreground: (H, W, 3) float32 in [0, 1].
        alpha: (H, W); the foreground is visible where it is above 0. If alpha is 0 everywhere, the background is
            unchanged.
        share: size of the move, in [0, 1]. Contrast changes by a factor of at most 2.

    Returns:
        (H, W, 3) float32 in [0, 1], clipped.
    """
    visible = (alpha > 0).view(np.uint8)
    if not visible.any():
        return background
    (mean, deviation), (wanted, wanted_deviation) = (
        (moments[0][:, 0], moments[1][:, 0])
        for moments in (cv2.meanStdDev(background), cv2.meanStdDev(foreground, mask=visible))
    )
    gain = np.clip((wanted_deviation + 0.02) / (deviation + 0.02), 1 / STEEPEST, STEEPEST)
    gain = 1 + share * (gain - 1)
    offset = mean + share * (wanted - mean) - gain * mean
    moved = cv2.transform(background, np.hstack([np.diag(gain), offset[:, None]]))
    return np.clip(moved, 0, 1, out=moved)
