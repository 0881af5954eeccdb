"""Backgrounds for composites: a colour, a gradient or a picture, made to fit the picture in front of them."""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageColor

from data.images.files import opened_image, read_rgb, read_rgb_profile
from runtime.errors import InputError

EXPECTED = "a colour (white, '#1e90ff' or 30,144,255), a gradient (navy..white, from top to bottom) or a picture"
_RGB = re.compile(r"\s*\d{1,4}\s*,\s*\d{1,4}\s*,\s*\d{1,4}\s*")
_BETWEEN = ".."  # the colours of a gradient


@dataclass(frozen=True, eq=False)
class Background:
    """A background to put behind a subject.

    Attributes:
        levels: uint8 RGB: (3,) of a colour, (2, 3) of a gradient's top and bottom, (h, w, 3) of a picture.
        profile: ICC profile of the levels; None for sRGB.

    Example:
        >>> Background(np.array([[0, 0, 0], [100, 200, 50]], np.uint8)).of_size(3, 8)[:, 0].tolist()
        [[0.0, 0.0, 0.0], [50.0, 100.0, 25.0], [100.0, 200.0, 50.0]]
    """

    levels: np.ndarray
    profile: bytes | None = None

    def of_size(self, height: int, width: int, profile: bytes | None = None) -> np.ndarray:
        """Levels of the background for a picture of a given size.

        A background picture is cropped at its centre to the proportions of the picture in front and resized to its
        size.

        Args:
            height, width: size of the picture in front, in pixels.
            profile: ICC profile of the picture in front, to which the colours are converted; None for sRGB.

        Returns:
            Levels from 0 to 255 that broadcast to (height, width, 3): (3,) uint8 of a colour, (height, 1, 3) float32
            of a gradient, (height, width, 3) uint8 of a picture.
        """
        if self.levels.ndim == 1:
            return _converted(self.levels[None, None], self.profile, profile)[0, 0]
        if self.levels.ndim == 3:
            return _converted(_covering(self.levels, height, width), self.profile, profile)
        top, bottom = _converted(self.levels[None], self.profile, profile)[0].astype(np.float32)
        share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        return top * (1 - share) + bottom * share


WHITE = Background(np.full(3, 255, np.uint8))


def read_background(text: str) -> Background:
    """Read the background that a user names: a colour, two colours of a gradient, or a picture file.

    Args:
        text: `#rrggbb`, a name of CSS, `rgb(30,144,255)` or `30,144,255`; two of them joined by two dots; or a path. A
            file that is named like a colour is read with a folder before it, `./red`. The EXIF orientation of a picture
            is applied, and its transparent parts are put over white.

    Raises:
        InputError: the text is neither a colour nor a path; a colour is not opaque or out of range; a picture cannot be
            read.

    Example:
        >>> read_background("#1e90ff").levels.tolist(), read_background("0,0,0..white").levels.tolist()
        ([30, 144, 255], [[0, 0, 0], [255, 255, 255]])
    """
    colour = _colour(text)
    if colour is not None:
        return Background(colour)
    ends = [_colour(part) for part in text.split(_BETWEEN)]
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
        return Background(np.stack(ends))
    if not Path(text).exists():
        raise InputError(f"--background: expected {EXPECTED}, got {text!r}")
    return Background(_over_white(text), read_rgb_profile(text))


def _colour(text: str) -> np.ndarray | None:
    """Colour (3,) uint8; None if the text is not a colour."""
    if _RGB.fullmatch(text):
        values = tuple(map(int, text.split(",")))
    else:
        try:
            values = ImageColor.getrgb(text.strip())
        except ValueError:
            return None
    if values[3:] not in ((), (255,)):
        raise InputError(f"--background: expected an opaque colour, got {text!r}; leave out its alpha")
    if max(values) > 255:
        raise InputError(f"--background: expected values of 0 to 255, got {text!r}")
    return np.array(values[:3], np.uint8)


def _over_white(path: str | os.PathLike) -> np.ndarray:
    """A picture (h, w, 3) uint8 with its transparent parts over white."""
    pixels = read_rgb(path)
    with opened_image(path) as image:
        if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
            return pixels
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if alpha.min() == 255:
        return pixels
    weight = alpha.astype(np.float32)[..., None] / np.float32(255)
    return np.rint(pixels * weight + 255 * (1 - weight)).astype(np.uint8)


def _covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture (h, w, 3), as large as it can be in the shape of the result, resized to it."""
    scale = max(height / picture.shape[0], width / picture.shape[1])
    rows, columns = (
        min(side, max(1, round(wanted / scale))) for side, wanted in zip(picture.shape, (height, width), strict=False)
    )
    # cut first: the whole of a very oblong picture could not be held at the size that covers
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    part = picture[top : top + rows, left : left + columns]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(part, (width, height), interpolation=interpolation)


def _converted(levels: np.ndarray, source: bytes | None, target: bytes | None) -> np.ndarray:
    """(h, w, 3) uint8 of one ICC profile in another, by relative colorimetry; None is sRGB."""
    if source == target:
        return levels
    try:
        profiles = [
            ImageCms.createProfile("sRGB") if profile is None else ImageCms.ImageCmsProfile(io.BytesIO(profile))
            for profile in (source, target)
        ]
        image = Image.fromarray(np.ascontiguousarray(levels))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return np.asarray(ImageCms.profileToProfile(image, *profiles, renderingIntent=intent))
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, which viewers ignore too
        return levels
