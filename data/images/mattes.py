"""Mattes and trimaps in files: which channel holds them, and on which scale its values are.

One rule for inference, training, evaluation and checks. A gray file is read as it is. Where a file is something else
that has one meaning only (a cut-out whose alpha channel is the matte, a trimap of labels 0, 1 and 2), that is read and
`Reading.remark` says so; where it has several, the file is refused.
"""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.images.files import TO_8_BITS, deep_to_uint8, is_deep, opened_image, read_header
from data.images.trimap_coding import TrimapCodingError, decode_trimap
from runtime.errors import InputError

LARGEST_TINT = 32  # levels between the channels of a gray picture that went through JPEG
TRANSPARENT_BELOW = 128  # a cut-out is more transparent than opaque somewhere
NARROW_SCALES = {1023: 10, 4095: 12}  # largest value in a 16-bit file -> bits that its values have
IN_ALPHA = "read from the alpha channel"


class CodingError(InputError):
    """A picture that is readable but no matte or trimap of a coding that is read.

    Attributes:
        kind: "colour", "transparent" or "coding".
    """

    def __init__(self, message: str, kind: str = "coding") -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self):
        return type(self), (str(self), self.kind)


class Reading(NamedTuple):
    """A matte or trimap, and how it was read.

    Attributes:
        values: (H, W) uint8.
        remark: how it was read, for people; empty for a gray file on its own scale.
    """

    values: np.ndarray
    remark: str


def read_matte(path: str | os.PathLike, first_channel: bool = False) -> np.ndarray:
    """Read a matte as (H, W) uint8; see `matte_reading`."""
    return matte_reading(path, first_channel=first_channel).values


def read_trimap(path: str | os.PathLike) -> np.ndarray:
    """Read a trimap as (H, W) uint8 of 0 (background), 128 (unknown) and 255; see `trimap_reading`."""
    return trimap_reading(path).values


def matte_reading(path: str | os.PathLike, exact: bool = False, first_channel: bool = False) -> Reading:
    """Read a matte and say how.

    | file | read as |
    | --- | --- |
    | one gray channel of 1, 8 or 16 bits, or floats from 0 to 1 | gray, scaled to 0..255 |
    | several channels that differ by compression at most | the first |
    | an alpha channel that is not opaque, in colours or on one colour | the alpha channel |
    | an alpha channel of one value, on gray | gray |

    Args:
        exact: refuse more than 8 bits, so that the values are the file's own.
        first_channel: of an opaque picture in colours take the first channel, as the Composition-1k evaluation code
            does with truths, and say so.

    Raises:
        CodingError: colours; gray and an alpha channel that differ; no value above 1; 8, 10 or 12 bits in 16.
        InputError: as `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        if exact:
            _require_8_bits(image, path)
        plane = _plane(image, path, "alpha", first_channel)
        if is_deep(image):
            _refuse_narrow_scale(plane.values, path)
            return Reading(deep_to_uint8(image, path), "")
        _refuse_lower_bytes(image, plane.values, path)
    levels = plane.values.astype(np.uint8) * np.uint8(255) if plane.values.dtype == bool else plane.values
    if levels.max(initial=0) == 1 and image.format != "JPEG":  # whose black may have specks of 1
        raise CodingError(f"{path}: expected an alpha of 0..255, found only 0 and 1; multiply it by 255")
    return Reading(levels, plane.remark)


def read_gray_exact(path: str | os.PathLike) -> np.ndarray:
    """Read (H, W) uint8 whose values are the file's own, for measuring: nothing is scaled or chosen unseen.

    Raises:
        CodingError: 16-bit or float values; colour channels that differ, or an alpha channel that is not opaque.
        InputError: as `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        _require_8_bits(image, path)
        if image.mode == "L":
            return np.asarray(image)
        channels = np.asarray(image.convert("RGBA"))
    if (channels[..., :3] != channels[..., :1]).any() or (channels[..., 3] != 255).any():
        raise CodingError(
            f"{path}: expected one gray channel, found mode {image.mode} whose channels differ or are transparent; "
            "save it as an 8-bit gray PNG"
        )
    return np.ascontiguousarray(channels[..., 0])


def trimap_reading(path: str | os.PathLike) -> Reading:
    """Read a trimap and say how.

    The channel is found as for mattes, and its values are read by `data.images.trimap_coding.decode_trimap`.

    Raises:
        CodingError: colours; gray and an alpha channel that differ; values that are no trimap.
        InputError: as `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        plane = _plane(image, path, "trimap")
        is_lossy = image.format == "JPEG"
        is_signed = image.info.get("signed", False)
        _refuse_lower_bytes(image, plane.values, path)
    try:
        values, coding = decode_trimap(plane.values, is_lossy, is_signed)
    except TrimapCodingError as error:
        raise CodingError(f"{path}: {error}") from error
    return Reading(values, "; ".join(remark for remark in (plane.remark, coding) if remark))


class _Plane(NamedTuple):
    values: np.ndarray  # (H, W) as the file has them: bool, uint8, uint16, int32 or float32
    remark: str = ""


def _plane(image: Image.Image, path: str | os.PathLike, what: str, first_channel: bool = False) -> _Plane:
    """The one channel of a picture that holds a matte or trimap."""
    if image.mode in ("L", "1") or is_deep(image):  # a level that a PNG calls transparent is a level all the same
        return _Plane(np.asarray(image))
    if image.mode not in ("LA", "PA", "RGBA") and not (image.mode == "P" and "transparency" in image.info):
        return _gray_of(np.asarray(image.convert("RGB")), path, what, first_channel)
    channels = np.asarray(image.convert("RGBA"))
    colours, alpha = channels[..., :3], channels[..., 3]
    if not alpha.size or alpha.min() == 255:
        return _gray_of(colours, path, what, first_channel)
    is_even = alpha.min() == alpha.max()
    visible = colours if is_even else colours[alpha > 0]
    shows_nothing = (visible == visible.reshape(-1, 3)[0]).all()
    if is_even and not shows_nothing:
        gray = _gray_of(colours, path, what, first_channel)
        return gray._replace(remark=gray.remark or "read without its alpha channel, which has one value")
    is_cut_out = _tint(colours) > LARGEST_TINT and alpha.min() < TRANSPARENT_BELOW
    if shows_nothing or is_cut_out or (colours == alpha[..., None]).all():
        return _Plane(np.ascontiguousarray(alpha), IN_ALPHA)
    raise CodingError(
        f"{path}: expected a gray {what}, found mode {image.mode} with an alpha channel that is not opaque; save the "
        f"channel that is the {what} as 8-bit gray PNG",
        "transparent",
    )


def _gray_of(colours: np.ndarray, path: str | os.PathLike, what: str, first_channel: bool) -> _Plane:
    """The first of channels (H, W, 3) that are equal but for compression, or with `first_channel` of any."""
    remark = ""
    if _tint(colours) > LARGEST_TINT:
        remark = "read by the first of channels that differ"
    if remark and not first_channel:
        hint = "are photographs and alphas exchanged?" if what == "alpha" else "save 0, 128 and 255 in 8-bit gray"
        raise CodingError(f"{path}: expected a gray {what}, found a picture in colours; {hint}", "colour")
    return _Plane(np.ascontiguousarray(colours[..., 0]), remark)


def _tint(colours: np.ndarray) -> int:
    """The largest difference between the channels of a pixel, (H, W, 3) uint8."""
    red, green, blue = (colours[..., channel] for channel in range(3))
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return int((high - low).max(initial=0))


def _require_8_bits(image: Image.Image, path: str | os.PathLike) -> None:
    """Refuse more bits: Pillow would drop the lower byte of several channels without a word."""
    if is_deep(image):
        raise CodingError(f"{path}: expected 8-bit values, found mode {image.mode}; {TO_8_BITS}")
    if image.mode not in ("L", "1") and read_header(path).deep:
        raise CodingError(f"{path}: expected 8-bit values, found 16 bits in each of several channels; {TO_8_BITS}")


def _refuse_narrow_scale(values: np.ndarray, path: str | os.PathLike) -> None:
    """Refuse 16-bit values that use the lowest bits only: on a scale of 65535 they would all be transparent."""
    if values.dtype.kind == "f" or not values.size:
        return
    highest = int(values.max())
    bits = 8 if 0 < highest <= 255 else NARROW_SCALES.get(highest)
    if bits:
        raise CodingError(
            f"{path}: expected an alpha of 0..65535 in 16 bits, found values up to {highest}, as of {bits} bits; "
            f"{TO_8_BITS}"
        )


def _refuse_lower_bytes(image: Image.Image, values: np.ndarray, path: str | os.PathLike) -> None:
    """Refuse several channels of 16 bits that use the lower 8 only, which are dropped."""
    if image.mode not in ("L", "1") and not is_deep(image) and not values.any() and read_header(path).deep:
        raise CodingError(f"{path}: expected values of 0..65535 in 16 bits, found none above 255; {TO_8_BITS}")
