"""Photographs in scikit-image's wheel, read from the installed package without any download.

They give procedural scenes real luminance statistics. The list has only files of every scikit-image since 0.22 that are
in the public domain (CC0, NASA, SpaceX, or "no known restrictions"), so pictures made from them may be shown. `skimage`
is not imported, because its fetchers may access the network and importing it takes time.
"""

import functools
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from data.images.files import read_rgb
from runtime.errors import InputError

COLOUR_FILES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "ihc.png",
    "hubble_deep_field.jpg",
)
GRAY_FILES = ("brick.png", "camera.png", "grass.png", "gravel.png")
LONGEST_SIDE = 640  # larger files are reduced once, as crops are small and a smaller array stays in the cache


@functools.lru_cache(maxsize=1)
def shipped_photographs() -> tuple[np.ndarray, ...]:
    """Every photograph as (H, W, 3) uint8 RGB, in a fixed order; gray ones have equal channels.

    They are read on the first call in a process and kept (about 9 MB). Do not modify the arrays.

    Raises:
        InputError: scikit-image is not installed, or lacks one of the files.
    """
    folder = shipped_folder()
    return tuple(_reduced(read_rgb(folder / name)) for name in COLOUR_FILES + GRAY_FILES)


def shipped_folder() -> Path:
    """Folder of scikit-image's data files.

    Raises:
        InputError: scikit-image is not installed.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise InputError(
            "synthetic data: expected scikit-image for its photographs, found no such package; install "
            "requirements.txt, or choose backgrounds='textures'"
        )
    return Path(package.origin).parent / "data"


def _reduced(photograph: np.ndarray) -> np.ndarray:
    height, width = photograph.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        photograph = cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)
    photograph.setflags(write=False)
    return photograph
