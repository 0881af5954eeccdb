"""Pictures in memory: conversion of arrays and PIL images to the 8-bit arrays of this project.

A picture in memory is read like the same picture in a file: saving it as PNG and reading it by `data.images.files`
gives the same array. The scale depends on the type: 0..255 for uint8, 0..65535 for uint16, 0..1 for floats.

A PIL image whose file is not decoded yet is read by the readers of files, because PIL misreads some kinds and has 8
bits of others only.
"""

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from data.images.deep_colours import read_deep_colours
from data.images.files import MAX_PIXELS, is_deep, read_rgb, to_uint8
from data.images.formats.extra_formats import FloatFile
from data.images.masks import mask_of_image, mask_of_levels, read_mask
from data.images.mattes import Plane, plane_of, trimap_reading
from data.images.trimap_coding import TrimapCodingError, decode_trimap
from runtime.errors import InputError

Picture = np.ndarray | Image.Image
ROUNDING, OVERSHOOT = 1e-3, 0.1  # accepted distances outside 0 to 1, from rounding and from bicubic resizing


def rgb_of(picture: Picture, name: str = "image") -> np.ndarray:
    """Convert a photograph to (H, W, 3) uint8 RGB.

    Args:
        picture: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16 or float in [0, 1]; or a PIL image,
            whose EXIF orientation is applied. An alpha channel is dropped, as for files.
        name: name for messages.

    Raises:
        InputError: another shape or type; floats outside [0, 1]; no pixels, or more than `MAX_PIXELS`.

    Example:
        >>> rgb_of(np.full((2, 3), 65535, np.uint16))[0, 0].tolist()
        [255, 255, 255]
    """
    if (path := _file_of(picture)) is not None:
        return read_rgb(path)
    return _three_channels(_to_levels(_upright_array(picture, name), name))


def deep_colours_of(picture: Picture, name: str = "image") -> np.ndarray:
    """Convert a photograph as `rgb_of`, but keep the depth of uint16 and floats.

    Returns:
        (H, W, 3) uint8 for a picture of 8 bits, else float32, in [0, 1] unless a file has values outside.

    Raises:
        InputError: see `rgb_of`.

    Example:
        >>> float(deep_colours_of(np.full((2, 3), 0.3))[0, 0, 0])
        0.30000001192092896
    """
    if (path := _file_of(picture)) is not None:
        colours, _ = read_deep_colours(path)
        return read_rgb(path) if colours is None else colours
    values = _upright_array(picture, name)
    if values.dtype == np.uint16:
        return _three_channels(values.astype(np.float32) / np.float32(65535))
    if np.issubdtype(values.dtype, np.floating):
        _require_scale(values, name)
        return _three_channels(values.astype(np.float32).clip(0, 1))
    return _three_channels(_to_levels(values, name))


def _three_channels(values: np.ndarray) -> np.ndarray:
    """Repeat a gray picture, or leave out the alpha channel."""
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    return np.ascontiguousarray(values[..., :3])


def trimap_of(picture: Picture, name: str = "trimap") -> np.ndarray:
    """Convert a trimap to (H, W) uint8 of exactly 0 (background), 128 (unknown) and 255 (foreground).

    Args:
        picture: (H, W) of bool, integers or floats in [0, 1] (0.5 is unknown); several channels that are gray; or a PIL
            image. In a picture of uint8, the channel is selected as in files, see `data.images.mattes`.
            `data.images.trimap_coding` defines the accepted codings. Unusual ones, such as labels 0, 1 and 2, give a
            warning.
        name: name for messages.

    Raises:
        InputError: another shape or coding, or colours.

    Example:
        >>> trimap_of(np.array([[0, 0.5, 1]])).tolist()
        [[0, 128, 255]]
    """
    if (path := _file_of(picture)) is not None:
        trimap, remark = trimap_reading(path)
        if remark:
            warnings.warn(f"{path}: {remark}", stacklevel=3)
        return trimap
    values, choice = _trimap_plane(picture, name)
    if np.issubdtype(values.dtype, np.floating) and values.min() >= -OVERSHOOT and values.max() <= 1 + OVERSHOOT:
        values = values.clip(0, 1)
    try:
        trimap, remark = decode_trimap(values)
    except TrimapCodingError as error:
        raise InputError(f"{name}: {error}") from None
    if remark := "; ".join(filter(None, (choice, remark))):
        warnings.warn(f"{name}: {remark}", stacklevel=3)
    return trimap


def _trimap_plane(picture: Picture, name: str) -> Plane:
    if isinstance(picture, Image.Image) and not is_deep(picture):
        return plane_of(_upright(picture, name), name, "trimap")
    values = _upright_array(picture, name)
    if values.ndim == 3 and values.dtype == np.uint8:
        return plane_of(Image.fromarray(np.ascontiguousarray(values)), name, "trimap")
    return Plane(_one_channel(values, name, "trimap"))


def _one_channel(values: np.ndarray, name: str, what: str) -> np.ndarray:
    """The one channel (H, W) of a gray picture of any type."""
    if values.ndim == 2:
        return values
    colours, alpha = values[..., :3], values[..., 3:]
    if (colours != colours[..., :1]).any() or (alpha.size and (alpha != alpha.flat[0]).any()):
        raise InputError(f"{name}: expected a gray {what}, found channels that differ; give the channel of the {what}")
    return np.ascontiguousarray(colours[..., 0])


def mask_of(picture: Picture, name: str = "mask") -> np.ndarray:
    """Convert a mask of an object to (H, W) float32 in [0, 1]. Its coding is detected as in `data.images.masks`.

    Args:
        picture: (H, W) of bool, of integers (zero is outside, or soft levels), or of float in [0, 1]; several channels
            that are gray; or a PIL image. If a picture of uint8 has a transparent alpha channel, this channel is used
            and not the colours.
        name: name for messages.

    Raises:
        InputError: as `rgb_of`; colours.
    """
    if (path := _file_of(picture)) is not None:
        return read_mask(path).values
    if isinstance(picture, Image.Image) and picture.mode != "F":
        return mask_of_image(_upright(picture, name), name).values
    values = _upright_array(picture, name)
    if values.ndim == 3 and values.dtype == np.uint8:
        return mask_of_image(Image.fromarray(np.ascontiguousarray(values)), name).values
    values = _one_channel(values, name, "mask")
    if np.issubdtype(values.dtype, np.integer) and len(np.unique(values)) <= 2 and values.min() == 0:
        return (values != 0).astype(np.float32)  # two values of any depth, such as 0 and 1, or 0 and 65535
    if np.issubdtype(values.dtype, np.floating):
        _require_scale(values, name)
        return values.astype(np.float32).clip(0, 1)
    return mask_of_levels(np.ascontiguousarray(_to_levels(values, name))).values


def _file_of(picture: Picture) -> str | None:
    """File of a PIL image that is not decoded; None for others, and for JPEG files, whose size may have been chosen."""
    if not isinstance(picture, ImageFile.ImageFile) or picture.format in ("JPEG", "MPO"):
        return None
    is_decoded = picture.values is not None if isinstance(picture, FloatFile) else not picture.tile
    if is_decoded:
        return None
    path = os.fspath(picture.filename) if picture.filename else ""
    return path if os.path.isfile(path) else None


def _upright_array(picture: Picture, name: str) -> np.ndarray:
    """Convert a picture to an upright array of its own type: (H, W), (H, W, 3) or (H, W, 4)."""
    if isinstance(picture, Image.Image):
        image = _upright(picture, name)
        if is_deep(image):
            values = np.asarray(image)
            return values if image.mode == "F" else _of_16_bits(values, name)
        if image.mode in ("L", "LA"):
            return np.asarray(image.getchannel(0))
        return np.asarray(image if image.mode == "RGB" else image.convert("L" if image.mode == "1" else "RGB"))
    if not isinstance(picture, np.ndarray):
        raise InputError(f"{name}: expected a numpy array or a PIL image, got {_kind(picture)}")
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (3, 4)):
        raise InputError(f"{name}: expected (H, W), (H, W, 3) or (H, W, 4), got shape {picture.shape}")
    _require_size(picture.shape[1], picture.shape[0], name)
    return picture


def _upright(image: Image.Image, name: str) -> Image.Image:
    """Apply the EXIF orientation of a PIL image."""
    _require_size(*image.size, name)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError(f"{name}: expected a single image, found several frames; give the one you mean, as a copy")
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # PIL decodes the file only here; damaged bytes raise errors of many kinds
        raise InputError(f"{name}: not a readable image ({error})") from error


def _of_16_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Convert values of PIL's modes "I" and "I;16", which both have 16 bits, to uint16."""
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{name}: expected values in 0..65535, found {values.min()}..{values.max()}")
    return values.astype(np.uint16)


def _to_levels(values: np.ndarray, name: str) -> np.ndarray:
    """Convert to uint8 of the same shape."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(values.dtype, np.floating):
        _require_scale(values, name)
        full_scale = 1.0
    elif values.dtype == np.uint16:
        full_scale = 65535.0
    else:
        raise InputError(f"{name}: expected uint8, uint16 or float in [0, 1], got {values.dtype}; convert it")
    return to_uint8(values, full_scale)  # values outside the range by at most ROUNDING are clipped


def _require_scale(values: np.ndarray, name: str) -> None:
    least, most = float(values.min()), float(values.max())
    if not (least >= -ROUNDING and most <= 1 + ROUNDING):  # also true for NaN
        raise InputError(f"{name}: expected floats in [0, 1], found {least:g}..{most:g}; divide by the full scale")


def _require_size(width: int, height: int, name: str) -> None:
    if not width * height:
        raise InputError(f"{name}: expected a picture, got {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: {width} x {height} pixels is over the limit of {MAX_PIXELS:,}; make it smaller")


def _kind(value: Any) -> str:
    kind = type(value)
    named = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{named}; read a file with PIL.Image.open" if isinstance(value, str) else named
