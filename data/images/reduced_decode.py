"""Decoding of JPEG photographs at a reduced size."""

import os

import numpy as np
from PIL import ImageOps

from data.images.files import opened_image, read_header, read_rgb


def read_rgb_reduced(path: str | os.PathLike, needed: tuple[int, int]) -> np.ndarray:
    """Read a photograph like `data.images.files.read_rgb`, a large JPEG at 1/2, 1/4 or 1/8 of its size.

    The scale is the smallest at which the photograph has at least the size `needed`. libjpeg omits the highest
    frequencies of each block. This is faster than a full decode, and close to the mean over the pixels that become one.
    Other formats, and JPEGs less than twice as large as needed, are read at full size.

    Args:
        needed: smallest (height, width) of the upright photograph.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: see `read_rgb`.
    """
    header = read_header(path)
    if (header.format, header.mode) != ("JPEG", "RGB"):
        return read_rgb(path)
    height, width = needed[::-1] if header.orientation >= 5 else needed
    with opened_image(path, decode=False) as image:
        image.draft("RGB", (width, height))  # chooses the smallest scale that is large enough, possibly 1
        image.load()
        return np.asarray(ImageOps.exif_transpose(image))
