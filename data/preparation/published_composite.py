"""The composite of the Deep Image Matting distribution's `Composition_code.py`, bit for bit.

That script (Adobe Systems, 2017, Apache License 2.0) loops over the pixels with Pillow. Here whole rows are computed,
with the same operations in the same order and precision.
"""

import math
import os

import numpy as np
from PIL import Image

from data.images.files import MAX_PIXELS, opened_image, read_header
from runtime.errors import InputError

ROWS = 256  # rows composed at once, because double precision for a whole photograph would take gigabytes


def read_as_stored(path: str | os.PathLike) -> np.ndarray:
    """Read (H, W, 3) uint8 RGB as in the script: converted by Pillow, without applying EXIF orientation.

    Raises:
        InputError: unreadable, truncated or too large, or values that Pillow would reduce to 8 bits.
    """
    if read_header(path).deep:
        raise InputError(f"{path}: expected 8-bit values, found more bits; save the file with 8 bits")
    with opened_image(path, decode=False) as image:
        return np.asarray(image.convert("RGB"))


def published_composite(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compose a foreground over the upper left of a background that covers it, as in the script.

    A level is a F + (1 - a) B with a = alpha / 255, in double precision, rounded down. Where foreground and background
    agree, the result may therefore be one level below them: 3 over 3 at alpha 5 is 2.

    Args:
        foreground, background: (H, W, 3) and (h, w, 3) uint8 RGB.
        alpha: (H, W) uint8.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: alpha has another size than the foreground, or the background cannot be enlarged.
    """
    height, width = foreground.shape[:2]
    if alpha.shape != (height, width):
        raise InputError(f"alpha has {alpha.shape[1]} x {alpha.shape[0]} pixels, but its foreground {width} x {height}")
    covering = cover(background, (height, width))
    image = np.empty_like(foreground)
    for top in range(0, height, ROWS):
        rows = slice(top, top + ROWS)
        weight = alpha[rows, :, None] / 255  # float64
        image[rows] = (weight * foreground[rows] + (1 - weight) * covering[rows]).astype(np.uint8)
    return image


def cover(background: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Upper left part of `size` (height, width) of a background, which is enlarged first if a side is too short.

    Both sides are multiplied by the larger of the two ratios and rounded up to whole pixels, with Pillow's bicubic
    kernel. A larger background is not reduced.

    Raises:
        InputError: the enlarged background would exceed `MAX_PIXELS`.
    """
    height, width = size
    own_height, own_width = background.shape[:2]
    ratio = max(width / own_width, height / own_height)
    if ratio > 1:
        enlarged = math.ceil(own_width * ratio), math.ceil(own_height * ratio)
        if math.prod(enlarged) > MAX_PIXELS:
            raise InputError(
                f"background of {own_width} x {own_height} pixels would be enlarged to {enlarged[0]} x {enlarged[1]}, "
                f"over the limit of {MAX_PIXELS:,}; use one of the foreground's proportions"
            )
        background = np.asarray(Image.fromarray(background).resize(enlarged, Image.Resampling.BICUBIC))
    return background[:height, :width]
