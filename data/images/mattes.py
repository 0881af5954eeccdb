"""Mattes and trimaps in files: detection of the channel and of the scale of its values.

Inference, training, evaluation and checks use the same rules. A gray file is read as it is. Other files are read if
they have a single meaning (a cut-out whose alpha channel is the matte, a trimap of labels 0, 1 and 2), with a
`Reading.remark`. A file with several possible meanings is refused.
"""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.images.files import TO_8_BITS, deep_to_uint8, deep_values, is_deep, opened_image, read_header
from data.images.formats.extra_formats import FloatFile
from data.images.trimap_coding import TrimapCodingError, decode_trimap
from runtime.errors import InputError

LARGEST_TINT = 32  # largest difference in levels between the channels of a gray picture, caused by JPEG
TRANSPARENT_BELOW = 128  # a cut-out has pixels that are more transparent than opaque
NARROW_SCALES = (1023, 4095)  # largest values of 10 and 12 bits, which cameras and editors store in 16
IN_ALPHA = "read from the alpha channel"


class CodingError(InputError):
    """A readable picture that is not a matte or trimap in a supported coding. Its text ends with the remedy.

    Attributes:
        message: the text without the remedy.
        kind: "colour", "transparent" or "coding".
        remedy: advice for the user; may be empty.
    """

    def __init__(self, message: str, kind: str = "coding", remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message, self.kind, self.remedy = message, kind, remedy

    def __reduce__(self):
        return type(self), (self.message, self.kind, self.remedy)


class Reading(NamedTuple):
    """A matte or trimap, with a remark on its reading.

    Attributes:
        values: (H, W) uint8, or uint16 where the values of a 16-bit file are unchanged.
        remark: remark for the user on an unusual file; empty for a gray file on the usual scale.
    """

    values: np.ndarray
    remark: str


def read_matte(path: str | os.PathLike) -> np.ndarray:
    """Read a matte as (H, W) uint8; see `matte_reading`."""
    return matte_reading(path).values


def read_trimap(path: str | os.PathLike) -> np.ndarray:
    """Read a trimap as (H, W) uint8 of 0 (background), 128 (unknown) and 255; see `trimap_reading`."""
    return trimap_reading(path).values


def matte_reading(
    path: str | os.PathLike, exact: bool = False, first_channel: bool = False, any_scale: bool = False
) -> Reading:
    """Read a matte with a remark on its reading.

    | file | read as |
    | --- | --- |
    | one gray channel of 1, 8 or 16 bits, or floats from 0 to 1 | gray, scaled to 0..255 |
    | several channels that differ by compression at most | the first channel |
    | an alpha channel that is not opaque, with colours or one colour | the alpha channel |
    | an alpha channel of one value, with gray | gray |

    Args:
        exact: whether the values are the file's own, uint8 or uint16, and floats are refused.
        first_channel: whether the first channel of an opaque colour picture is read, with a remark, as the
            Composition-1k evaluation code does with truths.
        any_scale: whether a matte on a `narrow_scale` is read as it is, and not refused.

    Raises:
        CodingError: colours; gray with a different alpha channel; no value above 1; 8, 10 or 12 bits in 16.
        InputError: see `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        if exact:
            _require_integers(image, path)
        plane = plane_of(image, path, "alpha", first_channel)
        if is_deep(image):
            if not any_scale:
                _refuse_narrow_scale(plane.values, path)
            return Reading(deep_values(image, path) if exact else deep_to_uint8(image, path), "")
        _refuse_lower_bytes(image, plane.values, path)
    levels = plane.values.astype(np.uint8) * np.uint8(255) if plane.values.dtype == bool else plane.values
    if image.format != "JPEG" and not any_scale:  # black in a JPEG may have noise of 1
        _refuse_narrow_scale(levels, path)
    return Reading(levels, plane.remark)


def read_gray_exact(path: str | os.PathLike) -> np.ndarray:
    """Read the file's own values as (H, W) uint8 or uint16, for measurements. No channel is selected.

    Raises:
        CodingError: floats; several channels of 16 bits; channels that differ, or an alpha channel that is not opaque.
        InputError: see `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        _require_integers(image, path)
        if is_deep(image):
            return deep_values(image, path)
        if image.mode == "L":
            return np.asarray(image)
        channels = np.asarray(image.convert("RGBA"))
    if (channels[..., :3] != channels[..., :1]).any() or (channels[..., 3] != 255).any():
        raise CodingError(
            f"{path}: expected one gray channel, found mode {image.mode} whose channels differ or are transparent",
            remedy="save it as an 8-bit gray PNG",
        )
    return np.ascontiguousarray(channels[..., 0])


def trimap_reading(path: str | os.PathLike) -> Reading:
    """Read a trimap with a remark on its reading.

    The channel is detected as for mattes, and `data.images.trimap_coding.decode_trimap` decodes its values.

    Raises:
        CodingError: colours; gray with a different alpha channel; values that are not a trimap.
        InputError: see `data.images.files.read_rgb`.
    """
    with opened_image(path) as image:
        plane = plane_of(image, path, "trimap")
        is_lossy = image.format == "JPEG"
        is_signed = image.info.get("signed", False)
        _refuse_lower_bytes(image, plane.values, path)
    try:
        values, coding = decode_trimap(plane.values, is_lossy, is_signed)
    except TrimapCodingError as error:
        raise CodingError(f"{path}: {error}") from error
    return Reading(values, "; ".join(remark for remark in (plane.remark, coding) if remark))


class Plane(NamedTuple):
    """The channel that is a matte or trimap, with a remark on the choice."""

    values: np.ndarray  # (H, W) in the type of the file: bool, uint8, uint16, int32 or float32
    remark: str = ""


def plane_of(image: Image.Image, path: str | os.PathLike, what: str, first_channel: bool = False) -> Plane:
    """Select the channel of a picture that is the matte or trimap.

    Args:
        image: upright picture.
        path: its file, or its name for messages.
        what: "alpha" or "trimap".
        first_channel: whether the first of channels that differ is read.

    Raises:
        CodingError: no channel is it.
    """
    if isinstance(image, FloatFile) and image.mode != "F" and not image.is_within(0, 1):
        found = f"expected floats in 0..1 of the {what}, found others in its channels"
        raise CodingError(f"{path}: {found}", remedy="scale them")
    if image.mode in ("L", "1") or is_deep(image):  # also if a PNG declares one gray level to be transparent
        return Plane(np.asarray(image))
    if image.mode not in ("LA", "P", "PA", "RGBA", "RGBa"):  # a palette may have transparent colours
        return _gray_of(np.asarray(image.convert("RGB")), path, what, first_channel)
    channels = np.asarray(image.convert("RGBA"))
    colours, alpha = channels[..., :3], channels[..., 3]
    if alpha.min() == 255:
        return _gray_of(colours, path, what, first_channel)
    is_even = alpha.min() == alpha.max()
    visible = colours if is_even else colours[alpha > 0]
    shows_nothing = (visible == visible.reshape(-1, 3)[0]).all()
    if is_even and not shows_nothing:
        gray = _gray_of(colours, path, what, first_channel)
        return gray._replace(remark=gray.remark or "read without its alpha channel, which has one value")
    is_cut_out = _tint(colours) > LARGEST_TINT and alpha.min() < TRANSPARENT_BELOW
    if shows_nothing or is_cut_out or (colours == alpha[..., None]).all():
        return Plane(np.ascontiguousarray(alpha), IN_ALPHA)
    raise CodingError(
        f"{path}: expected a gray {what}, found mode {image.mode} with an alpha channel that is not opaque",
        "transparent",
        f"save the channel that is the {what} as 8-bit gray PNG",
    )


def _gray_of(colours: np.ndarray, path: str | os.PathLike, what: str, first_channel: bool) -> Plane:
    """First of three channels (H, W, 3), which must be equal up to compression unless `first_channel` is set."""
    is_gray = _tint(colours) <= LARGEST_TINT
    if not is_gray and not first_channel:
        remedy = "are photographs and alphas exchanged?" if what == "alpha" else "save 0, 128 and 255 in 8-bit gray"
        raise CodingError(f"{path}: expected a gray {what}, found a picture in colours", "colour", remedy)
    first = np.ascontiguousarray(colours[..., 0])
    return Plane(first, "" if is_gray else "read by the first of channels that differ")


def _tint(colours: np.ndarray) -> int:
    """Largest difference between the channels of any pixel of (H, W, 3) uint8."""
    red, green, blue = (colours[..., channel] for channel in range(3))
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return int((high - low).max())


def _require_integers(image: Image.Image, path: str | os.PathLike) -> None:
    """Refuse floats, and channels of more than 8 bits of which Pillow silently drops the lower ones."""
    if image.mode == "F":
        raise CodingError(f"{path}: expected 8 or 16 bits, found floats", remedy="save it as a gray PNG")
    if not is_deep(image) and read_header(path).deep:
        found = "expected 8-bit values, found 10 to 16 bits, of which the lower ones are not read"
        raise CodingError(f"{path}: {found}", remedy=TO_8_BITS)


def narrow_scale(values: np.ndarray) -> int | None:
    """Value of an opaque pixel in a matte whose values use a small part of their type only; None for other mattes.

    On the scale of its type such a matte is nearly transparent, so it probably has another one: labels of 0 and 1, or
    values of 8, 10 or 12 bits that are stored in 16.

    Args:
        values: (H, W) uint8, or wider integers on the scale of 65535.

    Example:
        >>> narrow_scale(np.uint8([[0, 1]])), narrow_scale(np.uint16([[0, 200]])), narrow_scale(np.uint8([[0, 200]]))
        (1, 255, None)
    """
    highest = int(values.max())
    if highest <= 1:
        return highest or None
    if values.dtype == np.uint8:
        return None
    return 255 if highest <= 255 else highest if highest in NARROW_SCALES else None


def _refuse_narrow_scale(values: np.ndarray, path: str | os.PathLike) -> None:
    """Refuse a matte that is nearly transparent on the scale of its type."""
    if values.dtype.kind != "f" and (opaque := narrow_scale(values)):
        raise wrong_scale(path, "an alpha", values, opaque)


def wrong_scale(path: str | os.PathLike, what: str, values: np.ndarray, opaque: int) -> CodingError:
    """Error for a matte whose values have the scale 0..`opaque`, see `narrow_scale`; `what` has its article."""
    expected = 255 if values.dtype == np.uint8 else 65535
    found = "only 0 and 1" if opaque == 1 else f"values up to {values.max()}, as of {opaque.bit_length()} bits"
    scale = "0..255" if expected == 255 else "0..65535 in 16 bits"
    remedy = f"multiply it by {expected / opaque:.6g}"
    return CodingError(f"{path}: expected {what} of {scale}, found {found}", remedy=remedy)


def _refuse_lower_bytes(image: Image.Image, values: np.ndarray, path: str | os.PathLike) -> None:
    """Refuse 16-bit channels that use the lower 8 bits only, if Pillow drops these bits."""
    if not is_deep(image) and not values.any() and read_header(path).deep:
        found = "expected values of 0..65535 in 16 bits, found none above 255"
        raise CodingError(f"{path}: {found}", remedy=TO_8_BITS)
