"""Linear light and sRGB levels: conversion of float photographs to 8-bit levels, and of colours to linear light.

The curve is that of IEC 61966-2-1. Networks were trained on photographs with these levels.
"""

import numpy as np

from data.images.formats.extra_formats import FloatFile
from runtime.errors import InputError

TRANSFERS = ("srgb", "linear")  # encoded values for a screen; values proportional to light
VALUES_AT_ONCE = 2**20  # values converted at a time, in whole rows


def photograph_levels(values: np.ndarray, transfer: str, path: object = "picture") -> tuple[np.ndarray, float]:
    """Convert the floats of a photograph to 8-bit sRGB levels.

    Args:
        values: (H, W) or (H, W, C) floats. Values outside 0 to 1 are clipped.
        transfer: one of `TRANSFERS`. Values that are "linear" are encoded; "srgb" values are levels already.
        path: path of the file for messages.

    Returns:
        (H, W, 3) uint8, and the share of clipped values.

    Raises:
        InputError: a value is NaN.

    Example:
        >>> levels, clipped = photograph_levels(np.float32([[0, 0.2140411, 1, 2]]), "linear")
        >>> levels[..., 0].tolist(), clipped
        ([[0, 127, 255, 255]], 0.25)
    """
    if values.ndim == 2:
        values = values[..., None]
    levels = np.empty((*values.shape[:2], 3), np.uint8)
    outside = 0
    for rows in _row_blocks(values):
        part = values[rows, :, :3].astype(np.float32)
        if np.isnan(part).any():
            raise InputError(f"{path}: expected numbers, found NaN among the values; replace such pixels")
        outside += int(((part < 0) | (part > 1)).sum())
        part = part.clip(0, 1)
        levels[rows] = np.rint((encode_light(part) if transfer == "linear" else part) * np.float32(255))
    return levels, outside / values[..., :3].size


def photograph_floats(values: np.ndarray, transfer: str) -> np.ndarray:
    """Convert the floats of a photograph to float sRGB levels, without clipping them to 0 to 1.

    Args:
        values: (H, W) or (H, W, C) floats without NaN. Values below -1 and above 65504, the largest number of half
            precision, are clipped, because extreme values would spread to their neighbours.
        transfer: see `photograph_levels`.

    Returns:
        (H, W, 3) float32. `encode_light` is continued above 1, and as a straight line below 0.

    Example:
        >>> levels = photograph_floats(np.float32([[0.2140411, 1, 4]]), "linear")
        >>> [round(level, 3) for level in levels[0, :, 0].tolist()]
        [0.5, 1.0, 1.825]
    """
    if values.ndim == 2:
        values = values[..., None]
    floats = np.empty((*values.shape[:2], 3), np.float32)
    most = float(np.finfo(np.float16).max)
    for rows in _row_blocks(values):
        part = values[rows, :, :3].astype(np.float32).clip(-1, most)
        floats[rows] = encode_light(part) if transfer == "linear" else part
    return floats


def encode_light(light: np.ndarray) -> np.ndarray:
    """Convert linear light to sRGB levels; 0 to 1 becomes 0 to 1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def decode_levels(levels: np.ndarray) -> np.ndarray:
    """Convert sRGB levels to linear light; the inverse of `encode_light`."""
    return np.where(levels <= 0.04045, levels / 12.92, ((np.maximum(levels, 0.04045) + 0.055) / 1.055) ** 2.4)


def transfer_of(image: object, asked: str | None) -> str:
    """Transfer of an opened float picture: the requested one, else the convention of its format."""
    return asked or (image.usual_transfer if isinstance(image, FloatFile) else "srgb")


def remark_on(transfer: str, clipped: float) -> str:
    """Remark for the user on the reading of a float photograph."""
    taken = "linear light, encoded as sRGB" if transfer == "linear" else "sRGB levels"
    percent = float(f"{100 * clipped:.1g}")  # one digit, so that the frames of a sequence share a line
    share = f"; {percent:g} % of the values are outside 0 to 1 and are clipped for the model" if clipped else ""
    return f"float values read as {taken} (see --transfer){share}"


def _row_blocks(values: np.ndarray) -> list[slice]:
    height = max(1, VALUES_AT_ONCE // values[0].size)
    return [slice(start, start + height) for start in range(0, len(values), height)]
