"""Decoding by OpenCV of JPEG 2000 files with more than 8 bits per channel.

Pillow 13 rounds their values to 8 bits without a limit, so that white becomes black: 65535 is rounded to 256, of which
the lower 8 bits are 0. Gray of 10 to 16 bits is right except that its white is not full scale.
"""

import os
from typing import BinaryIO, NamedTuple

import numpy as np

from data.images.opencv_decoder import decode_by_opencv

START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # the markers SOC and SIZ
SIGNED = 0x80  # in the byte of a channel's depth
INSTEAD = "save it as a 16-bit PNG or TIFF"


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
    begin = 0 if file.read(4) == START_OF_CODESTREAM else _box(file, b"jp2c")
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


def _box(file: BinaryIO, wanted: bytes) -> int:
    """Place of the content of the first box of a type (I.4)."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(16)
        length, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:  # the length follows in 8 bytes
            length, begin = int.from_bytes(head[8:], "big"), 16
        if kind == wanted:
            return place + begin
        if length < begin:  # the last box, or the end of the file
            raise Jpeg2000Error("not a readable image (it has no codestream)")
        place += length


def read_values(path: str | os.PathLike, size: tuple[int, int]) -> np.ndarray:
    """Decode a file with more than 8 bits per channel.

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
    if int(values.max()) > most:
        raise Jpeg2000Error(f"{kind} has values up to {values.max()}; {INSTEAD}")
    return values if most == 65535 else ((values * np.uint32(65535) + most // 2) // most).astype(np.uint16)
