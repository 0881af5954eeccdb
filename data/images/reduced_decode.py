"""Photographs decoded no larger than they are needed."""

import os

import numpy as np
from PIL import ImageOps

from data.images.files import opened_image, read_header, read_rgb


def read_rgb_reduced(path: str | os.PathLike, needed: tuple[int, int]) -> np.ndarray:
    """As `data.images.files.read_rgb`, a JPEG at 1/2, 1/4 or 1/8 of its size where that still is at least `needed`.

    libjpeg leaves out the highest frequencies of each block, which is quicker than decoding all and close to the mean
    over the pixels that become one. Other formats, and JPEGs less than twice as large, are read whole.

    Args:
        needed: (height, width) as the upright photograph is seen.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: as `read_rgb`.
    """
    header = read_header(path)
    if (header.format, header.mode) != ("JPEG", "RGB"):
        return read_rgb(path)
    height, width = needed[::-1] if header.orientation >= 5 else needed
    with opened_image(path, decode=False) as image:
        image.draft("RGB", (width, height))  # picks the smallest scale that is large enough, 1 included
        image.load()
        return np.asarray(ImageOps.exif_transpose(image))
