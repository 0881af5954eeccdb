"""Pixel maps: 3x3 matrices that say where an output pixel is read from, composed before any pixel is touched.

A map takes output pixel coordinates (x, y, 1) to input pixel coordinates; pixel centres are whole numbers. The
product `first @ second` reads: go through `second`, then through `first`, so maps compose from the file outwards.
"""

import cv2
import numpy as np

Size = tuple[int, int]  # height, width


def resize_map(in_size: Size, out_size: Size) -> np.ndarray:
    """The map of a resize from `in_size` to `out_size` that keeps the outer borders (cv2.resize's convention)."""
    scale_y, scale_x = in_size[0] / out_size[0], in_size[1] / out_size[1]
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])


def crop_map(top: int, left: int) -> np.ndarray:
    """The map of a crop whose first pixel is (`left`, `top`)."""
    return np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])


def read_through(
    image: np.ndarray, pixel_map: np.ndarray, size: Size, interpolation: int, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """Sample (H, W) or (H, W, 3) `image` at `pixel_map` of every pixel of a `size` output, same dtype.

    Outside it is 0, or what the OpenCV `border` says.
    """
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pixel_map[:2], (size[1], size[0]), flags=flags, borderMode=border)


def read_stretched(image: np.ndarray, canvas: Size, corner: Size, size: Size, interpolation: int) -> np.ndarray:
    """Read the `size` window at `corner` of `image` as it would be resized to `canvas`, same dtype.

    Only the part of the image under the window is resized, cut at whole pixels of the image: the result is within
    one of the image's pixels of the true place, which for a background nothing depends on, and several times faster
    than an exact map.
    """
    (top, bottom), (left, right) = (
        (
            min(round(start * in_length / out_length), in_length - 1),
            max(round((start + length) * in_length / out_length), 1),
        )
        for start, length, in_length, out_length in zip(corner, size, image.shape[:2], canvas, strict=True)
    )
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    return cv2.resize(part, (size[1], size[0]), interpolation=interpolation)


def nearest_indices(start: int, stop: int, out_length: int, in_length: int, step: int = 1) -> np.ndarray:
    """Input index nearest to each output index start, start + step, ... < stop, of an axis resized to `out_length`."""
    positions = (np.arange(start, stop, step) + 0.5) * (in_length / out_length)
    return np.minimum(positions.astype(np.intp), in_length - 1)
