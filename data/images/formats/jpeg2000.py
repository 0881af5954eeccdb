"""JPEG 2000 files that Pillow misreads: decoding by OpenCV, or an error.

Pillow 13 rounds more than 8 bits per channel to 8 without a limit, so that white becomes black: 65535 is rounded to
256, of which the lower 8 bits are 0. Gray of 10 to 16 bits is right except that its white is not full scale. OpenCV
decodes these files.

With less than 8 bits, the white of Pillow is not full scale either: one bit becomes 0 and 128. Pillow also ignores the
boxes that give the order of the channels and of the columns of a palette. OpenCV reads such files no better.
"""

import os
from typing import BinaryIO, NamedTuple

import numpy as np

from data.images.formats.iso_boxes import MOST_BYTES, Box, boxes, boxes_in, content
from data.images.formats.opencv_decoder import decode_by_opencv

START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
SIGNED = 0x80  # in the byte of a channel's depth
SRGB, GRAY, SYCC, CMYK = 16, 17, 18, 12  # enumerated colour spaces (ISO/IEC 15444-1, I.5.3.3)
UNSPECIFIED = 0  # as OpenJPEG writes it; the standard's bilevel pictures are refused because of their bits
COLOUR, OPACITY = 0, 1  # types of channels
LARGEST_PROFILE = 2**24  # bytes
INSTEAD = "save it as a 16-bit PNG or TIFF"
AS_PNG = "save it as PNG"


class Jpeg2000Error(Exception):
    """A JPEG 2000 that is not supported; the message has the reason and a remedy."""


class Channels(NamedTuple):
    """Contents of the header of a codestream (ISO/IEC 15444-1, A.5.1).

    Attributes:
        size: (height, width).
        bits: bits of each channel.
        signed: whether a channel has signed values.
    """

    size: tuple[int, int]
    bits: tuple[int, ...]
    signed: bool


def read_channels(file: BinaryIO) -> Channels:
    """Read the header of the codestream in a JP2 file, or of a bare one.

    Raises:
        Jpeg2000Error: there is none.
    """
    file.seek(0)
    begin = 0 if file.read(4) == START_OF_CODESTREAM else next((b.begin for b in boxes(file) if b.kind == b"jp2c"), 0)
    file.seek(begin)
    header = file.read(42)
    if len(header) < 42 or not header.startswith(START_OF_CODESTREAM):
        raise Jpeg2000Error("not a readable image (it has no codestream)")
    right, bottom, left, top = (int.from_bytes(header[at : at + 4], "big") for at in (8, 12, 16, 20))
    depths = file.read(3 * int.from_bytes(header[40:42], "big"))[::3]  # one less than the bits; the top bit is the sign
    return Channels(
        (bottom - top, right - left),
        tuple((depth & ~SIGNED) + 1 for depth in depths),
        any(depth & SIGNED for depth in depths),
    )


def require_known_layout(file: BinaryIO) -> None:
    """Refuse a file whose channels or palette have another meaning than Pillow and OpenCV assume.

    Raises:
        Jpeg2000Error: see above.
    """
    bits = read_channels(file).bits
    header = boxes_in(file, [b"jp2h"])  # empty for a bare codestream
    found = {kind: _first(file, header, kind) for kind in (b"colr", b"pclr", b"cmap", b"cdef")}
    colr, palette, channels = found[b"colr"], found[b"pclr"], found[b"cdef"]
    profile = _profile(colr)
    if profile and profile[16:20] not in (b"RGB ", b"GRAY"):
        kind = ascii(profile[16:20].decode("latin-1"))
        raise Jpeg2000Error(f"JPEG 2000 with a colour profile of kind {kind} is not read; {AS_PNG}")
    space = int.from_bytes(colr[3:7], "big") if colr[:1] == b"\x01" else None  # None for a profile
    usual = {None, UNSPECIFIED, SRGB, GRAY}
    if space not in usual and not (space in (SYCC, CMYK) and max(bits) <= 8):  # which OpenCV misreads or refuses
        raise Jpeg2000Error(f"JPEG 2000 with colour space {space} and {max(bits)} bits is not read; {AS_PNG}")
    if palette and not (bits == (8,) and space != GRAY and _is_usual_palette(palette, found[b"cmap"])):
        raise Jpeg2000Error(f"JPEG 2000 with this kind of palette is not read; {AS_PNG}")
    if not palette and min(bits) < 8:
        raise Jpeg2000Error(f"JPEG 2000 with {min(bits)} bits in a channel is not read; {AS_PNG}")
    if channels and not _is_usual_order(channels):
        raise Jpeg2000Error(f"JPEG 2000 with another order of channels than RGB and alpha is not read; {AS_PNG}")


def read_profile(file: BinaryIO) -> bytes | None:
    """ICC profile of a JP2 file; None without one."""
    return _profile(_first(file, boxes_in(file, [b"jp2h"]), b"colr"))


def _profile(colr: bytes) -> bytes | None:
    return colr[3:] if colr[:1] in (b"\x02", b"\x03") else None  # restricted (I.5.3.3), or any (JPX)


def _first(file: BinaryIO, header: list[Box], kind: bytes) -> bytes:
    most = LARGEST_PROFILE if kind == b"colr" else MOST_BYTES
    return next((content(file, box, most) for box in header if box.kind == kind), b"")


def _is_usual_palette(pclr: bytes, cmap: bytes) -> bool:
    """Return whether a palette has three or four columns of 8 bits, in their order."""
    columns = pclr[2] if len(pclr) > 2 else 0
    in_order = b"".join(bytes([0, 0, 1, column]) for column in range(columns))
    return columns in (3, 4) and pclr[3 : 3 + columns] == bytes([7] * columns) and cmap == in_order


def _is_usual_order(cdef: bytes) -> bool:
    """Return whether the channels are the colours in their order, and at most one alpha channel after them."""
    numbers = [int.from_bytes(cdef[at : at + 2], "big") for at in range(2, len(cdef), 2)]
    found = sorted(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False))
    colours = [(index, COLOUR, index + 1) for index in range(len(found))]
    return found in (colours, [*colours[:-1], (len(found) - 1, OPACITY, 0)])


def read_values(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Decode a file with more than 8 bits per channel and a known layout, see `require_known_layout`.

    Args:
        size: expected (height, width), within the caller's limit of pixels.

    Returns:
        (H, W), (H, W, 3) RGB or (H, W, 4) RGBA uint16, scaled so that white is 65535.

    Raises:
        Jpeg2000Error: the file is damaged or of another kind.
    """
    with open(path, "rb") as file:
        channels = read_channels(file)
    if channels.size != size:
        raise Jpeg2000Error("not a readable image (its headers differ in size)")
    kind = f"JPEG 2000 with {len(channels.bits)} channels of {', '.join(map(str, sorted(set(channels.bits))))} bits"
    if channels.signed or len(set(channels.bits)) > 1 or len(channels.bits) not in (1, 3, 4) or channels.bits[0] > 16:
        raise Jpeg2000Error(f"{kind}{', signed,' if channels.signed else ''} is not read; {INSTEAD}")
    values = decode_by_opencv(path)
    wanted = size if len(channels.bits) == 1 else (*size, len(channels.bits))
    if values is None or values.dtype != np.uint16 or values.shape != wanted:
        raise Jpeg2000Error(f"{kind} is damaged or of a kind that is not read; {INSTEAD}")
    most = 2 ** channels.bits[0] - 1
    return values if most == 65535 else ((values * np.uint32(65535) + most // 2) // most).astype(np.uint16)
