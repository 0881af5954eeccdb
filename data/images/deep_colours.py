"""Colours of photographs with more than 8 bits per channel, for cut-outs and composites with more than 8 bits.

Networks see the 8-bit levels of `data.images.files.read_photograph`. The colours of a cut-out come from this module, so
that a 16-bit photograph keeps its depth and an EXR file its highlights.
"""

import os

import numpy as np

from data.images.files import MAX_PIXELS, Header, deep_values, is_deep, opened_image, read_header
from data.images.formats import jpeg2000, tiff
from data.images.formats.extra_formats import FloatFile, upright
from data.images.formats.opencv_decoder import decode_by_opencv
from data.images.light import photograph_floats, transfer_of

DECODED_BY_OPENCV = frozenset({"PNG", "PPM"})


def read_deep_colours(path: str | os.PathLike, transfer: str | None = None) -> tuple[np.ndarray | None, str]:
    """Read the colours of a photograph that has more than 8 bits per channel.

    Args:
        transfer: meaning of floats, see `data.images.files.read_photograph`.

    Returns:
        (H, W, 3) float32 sRGB levels in which white is 1, upright; None for a photograph of 8 bits, and for one whose
        other bits cannot be read. Float files may have values outside 0 to 1. The second value is a remark, which is
        empty unless bits cannot be read.

    Raises:
        InputError: see `read_photograph`.

    Example:
        >>> import cv2
        >>> _ = cv2.imwrite("deep.png", np.full((2, 3, 3), 32768, np.uint16))
        >>> colours, remark = read_deep_colours("deep.png")
        >>> float(colours[0, 0, 0] * 65535), remark
        (32768.0, '')
    """
    header = read_header(path)
    if not header.deep:
        return None, ""
    with opened_image(path) as image:
        if isinstance(image, FloatFile) or image.mode == "F":
            values = image.values if isinstance(image, FloatFile) else np.asarray(image)
            return photograph_floats(values, transfer_of(image, transfer)), ""
        if is_deep(image):
            values = deep_values(image, path)
            return np.repeat(_to_floats(values)[..., None], 3, axis=2), ""
        upper = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    values = _decoded(path, header)
    if values is None or not _agree(values, upper):
        return None, f"only 8 bits of this kind of {header.format} are read; cut-outs have colours of 8 bits"
    return _to_floats(values), ""


def _agree(values: np.ndarray, levels: np.ndarray) -> bool:
    """Return whether 16-bit values are those of Pillow's 8-bit levels, cut off or rounded.

    This compares two decoders: the order of the channels, the orientation, and the use of an alpha channel.
    """
    if values.shape != levels.shape:
        return False
    return all(  # row by row, because the differences take memory
        (np.abs((row >> 8).astype(np.int16) - row_levels) <= 1).all()
        for row, row_levels in zip(values, levels, strict=True)
    )


def _decoded(path: str | os.PathLike, header: Header) -> np.ndarray | None:
    """The upright values (H, W, 3) uint16 of a file with 16-bit colours; None if they cannot be read."""
    if header.format == "JPEG2000":
        values = jpeg2000.read_values(path, header.size)
    elif header.format == "TIFF":  # OpenCV confuses the planes of some files, and tifffile lacks codecs
        try:
            values = upright(tiff.read_values(path, MAX_PIXELS)[0], header.orientation)
        except tiff.TiffError:
            values = decode_by_opencv(path)  # which turns a TIFF by its tag
    elif header.format in DECODED_BY_OPENCV and (values := decode_by_opencv(path)) is not None:
        values = upright(values, header.orientation)
    else:
        return None
    if values is None or values.dtype != np.uint16 or values.ndim != 3:  # Pillow decodes a single deep channel
        return None
    return values[..., :3] if values.shape[2] > 2 else np.repeat(values[..., :1], 3, axis=2)


def _to_floats(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits as float32 in which white is 1."""
    return values.astype(np.float32) / np.float32(65535)
