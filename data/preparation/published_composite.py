"""The composite of the Deep Image Matting distribution's `Composition_code.py`, to the bit.

That script (Adobe Systems, 2017, Apache License 2.0) walks over the pixels with Pillow; here whole rows are computed,
by the same operations in the same order and precision.
"""

import math
import os

import numpy as np
from PIL import Image

from data.images.files import MAX_PIXELS, opened_image, read_header
from runtime.errors import InputError

ROWS = 256  # composed at a time: double precision for a whole photograph would take gigabytes


def read_as_stored(path: str | os.PathLike) -> np.ndarray:
    """Read (H, W, 3) uint8 RGB as the script sees a file: converted by Pillow, an EXIF orientation not applied.

    Raises:
        InputError: unreadable, truncated or too large, or values that Pillow would cut to 8 bits.
    """
    if read_header(path).deep:
        raise InputError(f"{path}: expected 8-bit values, found more bits; save the file with 8 bits")
    with opened_image(path, decode=False) as image:
        return np.asarray(image.convert("RGB"))


def published_composite(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay a foreground over a background as the script does: the upper left of a background that covers it, cut down.

    A level is a F + (1 - a) B with a = alpha / 255, in double precision, its fraction dropped. So where foreground
    and background agree the result may be one level below them: 3 over 3 at alpha 5 is 2.

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
    """The upper left `size` (height, width) of a background, enlarged first where a side is too short.

    Both sides grow by the larger of the two ratios, to the next whole pixel, by Pillow's bicubic kernel; a background
    that is large enough is not shrunk.

    Raises:
        InputError: enlarged it would be over `MAX_PIXELS`.
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
