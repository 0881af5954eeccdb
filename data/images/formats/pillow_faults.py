"""Kinds of PNG, BMP, GIF, PCX and SGI that Pillow misreads without an error.

`data.images.formats.tiff`, `data.images.formats.jpeg2000` and `data.images.formats.avif` have those of their formats.
"""

from typing import BinaryIO

from PIL import Image

METADATA = (b"eXIf", b"iTXtXML:com.adobe.xmp\0", b"tEXtRaw profile type ", b"zTXtRaw profile type ")  # chunks of PNG


def takes_indices_for_levels(image: Image.Image) -> bool:
    """Return whether Pillow misreads the indices of a BMP, because the colours of its palette are gray.

    Pillow reads a palette of black and white as one bit per pixel, although the indices have 4 or 8 bits.
    """
    if image.format != "BMP" or image.tile[0].codec_name != "raw" or image.tile[0].args[0] not in ("1", "L"):
        return False
    header = _bytes(image.fp, 14, 16)  # behind the header of the file
    at = 10 if header[:1] == b"\x0c" else 14  # OS/2 has sizes of 16 bits
    return int.from_bytes(header[at : at + 2], "little") != {"1": 1, "L": 8}[image.tile[0].args[0]]


def reason_to_refuse(image: Image.Image) -> str:
    """Reason to refuse a GIF, PCX or SGI: programs disagree about it, or Pillow is wrong. Empty for other files."""
    if image.format == "GIF" and "transparency" not in image.info and image.tile[0].extents != (0, 0, *image.size):
        return "expected a picture that fills its canvas, found pixels without a colour; save it as PNG"
    if image.format == "PCX" and image.mode == "1":
        first, second = _bytes(image.fp, 16, 3), _bytes(image.fp, 19, 3)
        if sum(first) > sum(second):
            return "expected a one-bit PCX of black and white, found a palette of white and black; save it as PNG"
    if image.format == "SGI" and _has_open_rows(image):
        return "expected an end mark in each row of an SGI with run lengths, found none; save it as PNG"
    return ""


def _has_open_rows(image: Image.Image) -> bool:
    """Return whether a row is a single run without an end mark, as FFmpeg writes it. Pillow reads this row as black.

    Pillow notices longer rows without an end mark.
    """
    if image.tile[0].codec_name != "sgi_rle":
        return False
    rows = image.height * int.from_bytes(_bytes(image.fp, 10, 2), "big")  # of all channels
    lengths = _bytes(image.fp, 512 + 4 * rows, 4 * rows)  # behind the header and the places of the rows
    value_size = image.tile[0].args[2]
    return any(int.from_bytes(lengths[at : at + 4], "big") < 3 * value_size for at in range(0, len(lengths), 4))


def has_late_metadata(file: BinaryIO) -> bool:
    """Return whether a PNG has EXIF or XMP data after its pixels, which Pillow finds when it decodes them."""
    place, begin, after_pixels = file.tell(), 8, False
    try:
        while len(head := _bytes(file, begin, 8 + max(map(len, METADATA)))) >= 8 and head[4:8] != b"IEND":
            after_pixels |= head[4:8] == b"IDAT"
            if after_pixels and head[4:].startswith(METADATA):
                return True
            begin += 12 + int.from_bytes(head[:4], "big")
        return False
    finally:
        file.seek(place)


def _bytes(file: BinaryIO, begin: int, count: int) -> bytes:
    file.seek(begin)
    return file.read(count)
