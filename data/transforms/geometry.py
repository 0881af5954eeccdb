"""Pixel maps: 3x3 matrices from output pixels to input pixels, which are combined before any pixel is read.

A map takes output pixel coordinates (x, y, 1) to input pixel coordinates; pixel centres are whole numbers. In the
product `first @ second`, `second` is applied before `first`, so maps compose from the file outwards.
"""

import cv2
import numpy as np

Size = tuple[int, int]  # height, width
LANCZOS_REACH = 5  # pixels: half of the kernel's 8, and one for rounding to the nearest pixel
ROW_LENGTH = 1024  # length of rows of a list of pixels, as OpenCV limits the sides of an array


def resize_map(in_size: Size, out_size: Size) -> np.ndarray:
    """Map of a resize from `in_size` to `out_size` that keeps the outer borders (cv2.resize's convention)."""
    scale_y, scale_x = in_size[0] / out_size[0], in_size[1] / out_size[1]
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])


def crop_map(top: int, left: int) -> np.ndarray:
    """Map of a crop whose first pixel is (`left`, `top`)."""
    return np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])


def read_through(
    image: np.ndarray, pixel_map: np.ndarray, size: Size, interpolation: int, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """Sample (H, W) or (H, W, 3) `image` at `pixel_map` of every pixel of an output of `size`, with the same dtype.

    Pixels outside the image are 0, or follow the OpenCV `border`.
    """
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pixel_map[:2], (size[1], size[0]), flags=flags, borderMode=border)


def read_where(
    wanted: np.ndarray, image: np.ndarray, pixel_map: np.ndarray, interpolation: int, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """`read_through` for the pixels of a mask only, at proportional cost; the other pixels are 0.

    Positions are rounded to 1/32 pixel, as `read_through` does for cubic and Lanczos kernels.

    Args:
        wanted: (h, w) bool, of the size of the output.
    """
    columns, rows = np.arange(wanted.shape[1]), np.arange(wanted.shape[0])[:, None]
    whole = [
        (by_column * columns + offset).astype(np.float32) + (by_row * rows).astype(np.float32)
        for by_column, by_row, offset in pixel_map[:2]
    ]
    places = np.flatnonzero(wanted)
    if len(places) == wanted.size:
        return cv2.remap(image, *whole, interpolation, borderMode=border)
    listed = np.zeros((2, -(-max(len(places), 1) // ROW_LENGTH), ROW_LENGTH), np.float32)
    for some, coordinates in zip(listed, whole, strict=True):
        some.reshape(-1)[: len(places)] = coordinates.reshape(-1).take(places)
    values = cv2.remap(image, *listed, interpolation, borderMode=border)
    pixel = np.dtype((np.void, values.itemsize * image[0, 0].size))  # copied as one item, which is several times faster
    read = np.zeros(wanted.size, pixel)
    read[places] = values.reshape(-1).view(pixel)[: len(places)]
    return read.view(image.dtype).reshape(*wanted.shape, *image.shape[2:])


class LanczosAlpha:
    """An (H, W) uint8 alpha for reading by Lanczos kernels, which are computed only where levels differ.

    Elsewhere, in most of the picture of a typical matte, the result of a kernel is the level itself.
    """

    def __init__(self, alpha: np.ndarray):
        padded = cv2.copyMakeBorder(alpha, *[LANCZOS_REACH] * 4, cv2.BORDER_CONSTANT, value=0)
        window = np.ones((2 * LANCZOS_REACH + 1,) * 2, np.uint8)
        self.varied = cv2.compare(cv2.dilate(padded, window), cv2.erode(padded, window), cv2.CMP_NE)
        self.alpha, self.exact = alpha, alpha.astype(np.float32)

    def read(self, pixel_map: np.ndarray, size: Size) -> np.ndarray:
        """`read_through` with zeros outside, (h, w) float32 on the scale of the levels."""
        to_padded = crop_map(LANCZOS_REACH, LANCZOS_REACH) @ pixel_map
        varied = read_through(self.varied, to_padded, size, cv2.INTER_NEAREST)
        levels = read_where(varied > 0, self.exact, pixel_map, cv2.INTER_LANCZOS4)
        levels += read_through(self.alpha, pixel_map, size, cv2.INTER_NEAREST) & ~varied
        return levels


def read_stretched(image: np.ndarray, canvas: Size, corner: Size, size: Size, interpolation: int) -> np.ndarray:
    """Read the window of `size` at `corner` of `image` resized to `canvas`, with the same dtype.

    Only the part of the image under the window is resized, cut at whole pixels of the image. The result is within one
    of the image's pixels of the exact position. This is sufficient for a background, and several times faster than an
    exact map.
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
    """Nearest input index of each output index start, start + step, ... < stop, of an axis resized to `out_length`."""
    positions = (np.arange(start, stop, step) + 0.5) * (in_length / out_length)
    return np.minimum(positions.astype(np.intp), in_length - 1)
