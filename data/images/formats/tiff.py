"""Decoding by tifffile of TIFF files that Pillow misreads or cannot read.

Pillow reads the common kinds. Without raising an error, it byte-swaps compressed big-endian floats, leaves 16-bit
WhiteIsZero inverted, reads uncompressed 16-bit planes as bytes, and turns the largest 32-bit values into negative ones.
`pillow_reads` accepts the kinds for which Pillow was found to agree with tifffile
(tests/data/images/formats/test_tiff.py). Every other kind is decoded here or refused.
"""

import os
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # either byte order, 32-bit and 64-bit offsets
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # values of PhotometricInterpretation
UNSIGNED, SIGNED, FLOAT, COMPLEX = 1, 2, 3, 6  # values of SampleFormat
UNCOMPRESSED, DEFLATE, PACKBITS = 1, (8, 32946), 32773  # values of Compression
SEPARATE = 2  # value of PlanarConfiguration
UNSPECIFIED, PREMULTIPLIED = 0, 1  # values of ExtraSamples
REDUCED = 1  # bit of NewSubfileType
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262  # tags
ORIENTATION, SAMPLES, PLANAR, FORMAT = 274, 277, 284, 339
SUBFILE_TYPE, SUB_FILES, COLOUR_MAP, YCBCR_WEIGHTS, BLACK_AND_WHITE = 254, 330, 320, 529, 532
SAMPLES_OF = {WHITE_IS_ZERO: (1, 2), BLACK_IS_ZERO: (1, 2), RGB: (3, 4)}  # that are read, without and with alpha
USUAL_YCBCR = {YCBCR_WEIGHTS: (0.299, 0.587, 0.114), BLACK_AND_WHITE: (0, 255, 128, 255, 128, 255)}
READ_KINDS = "save it as 8-bit or 16-bit PNG"


class TiffHeader(NamedTuple):
    """Contents of a TIFF header.

    Attributes:
        size: (height, width) as stored.
        orientation: EXIF orientation, 1 for upright; a damaged file may have other values than 1 to 8.
        bits: bits per sample.
        samples: samples per pixel.
    """

    size: tuple[int, int]
    orientation: int
    bits: int
    samples: int


class TiffError(Exception):
    """A TIFF that is not supported; the message has the reason and a remedy."""


def is_tiff(path: str | os.PathLike) -> bool:
    """Return whether a file starts with the signature of TIFF."""
    with open(path, "rb") as file:
        return file.read(4) in MAGIC


def pillow_reads(tags: Mapping[int, Any], big_endian: bool) -> bool:
    """Return whether Pillow decodes a file with these tags correctly.

    Args:
        tags: values by tag number, as in Pillow's `tag_v2`.
        big_endian: whether the file is big-endian.
    """
    # Pillow does not recognise a file whose channels differ in depth or in sample format.
    depth, kind, samples = _values(tags, BITS, 1)[0], _values(tags, FORMAT, UNSIGNED)[0], tags.get(SAMPLES, 1)
    planar, compressed = tags.get(PLANAR) == SEPARATE, tags.get(COMPRESSION, 1) != UNCOMPRESSED
    photometric = tags.get(PHOTOMETRIC, BLACK_IS_ZERO)
    if photometric == PALETTE and 0 < max(_values(tags, COLOUR_MAP, 0)) < 256:  # in 8 bits, which would be black
        return False
    if photometric == YCBCR and not compressed and not _is_usual_ycbcr(tags):
        return False
    if depth in (1, 2, 4, 8):
        return kind == UNSIGNED and not (planar and samples == 2)
    if photometric == WHITE_IS_ZERO:
        return False
    if samples == 1:
        if depth == 16 and kind == UNSIGNED:
            return True
        return (depth, kind) in ((16, SIGNED), (32, SIGNED), (32, FLOAT)) and not (big_endian and compressed)
    return depth == 16 and kind == UNSIGNED and (not planar or compressed)


def _is_usual_ycbcr(tags: Mapping[int, Any]) -> bool:
    """Return whether a file has the luminance and the range of values that Pillow assumes."""
    return all(
        np.allclose([float(value) for value in _values(tags, tag, 0)], usual, atol=1e-3)
        for tag, usual in USUAL_YCBCR.items()
        if tag in tags
    )


def is_thumbnail(tags: Mapping[int, Any]) -> bool:
    """Return whether the picture is a reduced one of a file with others, as in raw files of cameras."""
    return bool(tags.get(SUBFILE_TYPE, 0) & REDUCED) and SUB_FILES in tags


def stored_size(tags: Mapping[int, Any]) -> tuple[int, int]:
    """(height, width) before the orientation is applied. Pillow's `size` has it applied even before decoding."""
    return int(tags[HEIGHT]), int(tags[WIDTH])


def is_deep(tags: Mapping[int, Any]) -> bool:
    """Return whether samples have more than 8 bits."""
    return max(_values(tags, BITS, 1)) > 8


def is_signed(tags: Mapping[int, Any]) -> bool:
    """Return whether samples are signed integers."""
    return SIGNED in _values(tags, FORMAT, UNSIGNED)


def read_header(path: str | os.PathLike) -> TiffHeader:
    """Read the header of a TIFF file without its pixels.

    Raises:
        TiffError: the file has no picture, or several.
    """
    from tifffile import TiffFile  # here, because the import takes 0.1 s and few runs need it

    with TiffFile(path) as file:
        return _header(_only_page(file))


def read_rgb_profile(path: str | os.PathLike) -> bytes | None:
    """ICC profile of a TIFF file of RGB; None without one, and for other kinds.

    Raises:
        TiffError: the file has no picture, or several.
    """
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = _only_page(file)
        return page.iccprofile if int(page.photometric) == RGB else None


def read_tiff(path: str | os.PathLike, max_pixels: int) -> Image.Image:
    """Decode a TIFF file by tifffile as an image, in the stored orientation.

    Returns:
        An image of mode "L", "LA", "RGB", "RGBA", "I;16", "I" or "F". Of several 16-bit channels the upper 8 bits
        are kept, as in Pillow. WhiteIsZero is inverted. `info["signed"]` is set if samples are signed.

    Raises:
        TiffError: the file is too large or of an unsupported kind.
    """
    values, header = read_values(path, max_pixels)
    image = _as_image(values)
    exif = image.getexif()
    exif[ORIENTATION] = header.orientation
    return image


def read_values(path: str | os.PathLike, max_pixels: int) -> tuple[np.ndarray, TiffHeader]:
    """Decode a TIFF file by tifffile.

    Returns:
        (H, W), or (H, W, C) of uint8 or uint16, in the stored orientation; WhiteIsZero is inverted. A channel after
        the colours whose meaning the file leaves open is left out, as Pillow does.

    Raises:
        TiffError: see `read_tiff`.
    """
    from tifffile import TiffFile

    with TiffFile(path) as file:
        page = _only_page(file)
        header = _header(page)
        height, width = header.size
        if not (height and width):
            raise TiffError("not a readable image (its header gives no dimensions)")
        if height * width > max_pixels:
            raise TiffError(f"{width} x {height} pixels is over the limit of {max_pixels:,}; make it smaller")
        photometric = int(page.photometric)
        if header.samples not in SAMPLES_OF.get(photometric, ()) or PREMULTIPLIED in page.extrasamples:
            raise TiffError(f"TIFF of kind {_kind(page)} is not read; {READ_KINDS}")
        require_bounded(page)
        try:
            values = page.asarray()
        except Exception as error:  # a codec may be missing, and bad bytes raise errors of many kinds
            raise TiffError(f"TIFF of kind {_kind(page)} is not read ({error}); {READ_KINDS}") from error
        if page.planarconfig == SEPARATE and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        if values.dtype.itemsize * 8 != header.bits:  # for example, 12 bits in 16 have another scale
            raise TiffError(f"TIFF of kind {_kind(page)} is not read; {READ_KINDS}")
        is_gray = values.ndim == 2 and values.dtype.kind in "uif"  # complex numbers have no levels
        if not (is_gray or (values.ndim == 3 and values.dtype in (np.uint8, np.uint16))):
            raise TiffError(f"TIFF of kind {_kind(page)} is not read; {READ_KINDS}")
        if UNSPECIFIED in page.extrasamples:
            values = values[..., : header.samples - 1] if header.samples == 4 else values[..., 0]
        return _inverted(values) if photometric == WHITE_IS_ZERO else values, header


def _inverted(values: np.ndarray) -> np.ndarray:
    """Values of a WhiteIsZero picture as those of BlackIsZero."""
    if values.dtype.kind != "u":
        raise TiffError(f"WhiteIsZero of {values.dtype} says nothing about white; save it as BlackIsZero")
    if values.ndim == 2:
        return ~values  # for unsigned integers, the largest value minus this value
    return np.dstack([~values[..., 0], values[..., 1:]])


def _as_image(values: np.ndarray) -> Image.Image:
    """Image of values, whose floats have 32 bits: `extra_formats.FloatTiffFile` reads the other floats."""
    signed = values.dtype.kind == "i"
    if values.ndim == 3 and values.dtype == np.uint16:
        values = (values >> 8).astype(np.uint8)
    elif values.dtype.kind != "f" and values.dtype not in (np.uint8, np.uint16):
        limits = np.iinfo(np.int32)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise TiffError(f"values of {values.min()} to {values.max()} are not read; {READ_KINDS}")
        values = values.astype(np.int32)
    image = Image.fromarray(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))))
    if signed:
        image.info["signed"] = True
    return image


def require_bounded(page) -> None:
    """Refuse deflated data that are larger than the picture when unpacked, before they fill the memory.

    With PackBits, the only other accepted codec, the unpacked data are at most 64 times as large as the file.
    """
    compression = int(page.compression)
    if compression in (UNCOMPRESSED, PACKBITS):
        return
    if compression not in DEFLATE:
        raise TiffError(f"TIFF of kind {_kind(page)} is not read; {READ_KINDS}")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    samples = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
    expected = rows * columns * samples * page.bitspersample // 8
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        try:
            unpacked = zlib.decompressobj().decompress(handle.read(count), expected + 1)
        except zlib.error as error:
            raise TiffError(f"not a readable image ({error})") from error
        if len(unpacked) > expected:
            raise TiffError("not a readable image (a strip is longer than its rows)")


def _only_page(file):
    if len(file.pages) != 1:
        raise TiffError(f"expected a single image, found {len(file.pages)}; save the one you mean")
    return file.pages[0]


def _header(page) -> TiffHeader:
    tag = page.tags.get(ORIENTATION)
    orientation = 1 if tag is None else tag.value
    return TiffHeader((page.imagelength, page.imagewidth), orientation, int(page.bitspersample), page.samplesperpixel)


def _kind(page) -> str:
    """Bits, sample format, channels, planes and compression, for messages."""
    formats = {SIGNED: " signed", FLOAT: " float", COMPLEX: " complex"}
    layout = "planar " if page.planarconfig == SEPARATE else ""
    layout += "premultiplied " if PREMULTIPLIED in page.extrasamples else ""
    return (
        f"{page.bitspersample}-bit{formats.get(int(page.sampleformat), '')} {layout}{page.photometric.name} with "
        f"{page.samplesperpixel} channels, compression {page.compression.name}"
    )


def _values(tags: Mapping[int, Any], number: int, default: int) -> tuple[int, ...]:
    found = tags.get(number, default)
    return found if isinstance(found, tuple) else (found,)
