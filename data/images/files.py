"""Reading and writing of image files: 8-bit arrays from files of every mode and bit depth.

All programs and data sets read files by these functions, so a palette PNG, a 16-bit TIFF or a truncated JPEG is treated
the same everywhere. Files are untrusted: sizes are limited, truncation is an error, and nothing is unpickled.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.images.formats import avif, jpeg2000, pillow_faults, tiff
from data.images.formats.extra_formats import FloatFile
from data.images.formats.opencv_decoder import decode_by_opencv
from data.images.light import photograph_levels, remark_on, transfer_of
from data.images.pairing import composed, name_key
from runtime.errors import InputError
from runtime.files import kind_of, replacing, temporary_beside
from runtime.text import name_some

FORMATS = {  # Pillow's formats in the order in which they are tried, with their suffixes
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "TIFF": (".tif", ".tiff"),
    "FLOAT-TIFF": (".tif", ".tiff"),
    "EXR": (".exr",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "PCX": (".pcx",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),  # last, because these files have no signature
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
RGB_MODES = frozenset({"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr"})  # which become RGB without a profile
NO_PICTURES = frozenset({"thumbs.db", "desktop.ini", "manifest.json"})  # beside pictures, ignored without a warning
ORIENTATION = 0x0112  # EXIF tag: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 with the axes swapped
TO_8_BITS = "scale the file to 8 bits and save it as PNG"
MAX_PIXELS = 400_000_000  # 20000 x 20000, more than any photograph has and less than exhausts a workstation's memory
DEEP_RAW_MODE = re.compile(r";16[BLN]$")  # Pillow's 16 bits per channel, "RGB;16B"; "BGR;16" is 16 bits per pixel
DEEP_CHUNK = 2**20  # pixels of more than 8 bits converted at a time, because float64 arithmetic takes 16 bytes each
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's default limit would refuse images from 179 million pixels on


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read a photograph as (H, W, 3) uint8 RGB.

    Gray and palette images are expanded. An alpha channel is dropped and not composited, because the colours are the
    photograph. 16-bit values are scaled to 8 bits, floats are read as in `read_photograph`, and the EXIF orientation is
    applied.

    Raises:
        InputError: the file is missing, unreadable, truncated, animated or larger than `MAX_PIXELS`.
    """
    return read_photograph(path)[0]


def read_photograph(path: str | os.PathLike, transfer: str | None = None) -> tuple[np.ndarray, str]:
    """Read a photograph like `read_rgb`, and return a remark, which is empty unless the file is unusual.

    Args:
        transfer: meaning of floats, see `data.images.light`; None for linear light in EXR and sRGB in other formats.

    Raises:
        InputError: see `read_rgb`.
    """
    with opened_image(path) as image:
        if isinstance(image, FloatFile) or image.mode == "F":
            values = image.values if isinstance(image, FloatFile) else np.asarray(image)
            taken_as = transfer_of(image, transfer)
            levels, clipped = photograph_levels(values, taken_as, path)
            return levels, "; ".join(filter(None, [remark_on(taken_as, clipped), _remark_on_alpha(image)]))
        if is_deep(image):
            return np.repeat(deep_to_uint8(image, path)[..., None], 3, axis=2), ""
        remark = _remark_on_alpha(image)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), remark


def _remark_on_alpha(image: Image.Image) -> str:
    """Remark on transparent pixels of a photograph; empty if there are none."""
    if not image.has_transparency_data or image.convert("RGBA").getchannel("A").getextrema()[0] == 255:
        return ""
    return "has transparent pixels, as if it was cut out already; its colours are used as they are stored there"


def read_rgb_profile(path: str | os.PathLike) -> bytes | None:
    """ICC profile of a picture's RGB values; None without a profile, or with one for gray or CMYK.

    Raises:
        InputError: see `read_rgb`; damaged pixels are not noticed.
    """
    with _named_errors(path), _identified(path) as image:
        if image is None:
            profile = tiff.read_rgb_profile(path)
        elif image.mode not in RGB_MODES:
            profile = None
        else:
            profile = jpeg2000.read_profile(image.fp) if image.format == "JPEG2000" else image.info.get("icc_profile")
        return profile if profile is not None and profile[16:20] == b"RGB " else None


def read_gray(path: str | os.PathLike) -> np.ndarray:
    """Read the first colour channel of a file as (H, W) uint8. The other channels are ignored.

    16-bit values are scaled to 8 bits, and floats are read on the scale 0 to 1. `data.images.mattes` reads mattes and
    trimaps, for which the other channels matter.

    Raises:
        InputError: see `read_rgb`.
    """
    with opened_image(path) as image:
        if is_deep(image):
            return deep_to_uint8(image, path)
        return np.asarray(image.convert("RGB").getchannel(0))


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return the upright (height, width) from the file's header, without decoding the pixels."""
    return read_header(path).size


class Header(NamedTuple):
    """Contents of an image file's header.

    Attributes:
        size: (height, width), upright.
        stored_size: (height, width) before the EXIF orientation is applied.
        orientation: EXIF orientation, 1 for upright.
        format, mode: Pillow's names; the mode is empty if Pillow cannot read the file.
        deep: whether a channel has more than 8 bits.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    format: str
    mode: str
    deep: bool


def read_header(path: str | os.PathLike) -> Header:
    """Read a file's header without decoding the pixels, except those of a PNG with metadata after them.

    Raises:
        InputError: see `read_rgb`; damaged pixels are not noticed.
    """
    with _named_errors(path), _identified(path) as image:
        if image is None:
            found = tiff.read_header(path)
            _check_size(path, *found.size[::-1])
            stored, orientation, kind, mode = found.size, found.orientation, "TIFF", ""
            deep = found.bits > 8
        else:
            stored = tiff.stored_size(image.tag_v2) if image.format == "TIFF" else image.size[::-1]
            kind, mode = image.format, image.mode
            deep = is_deep(image) or _has_deep_channels(image)
            if image.format == "PNG" and pillow_faults.has_late_metadata(image.fp):
                image.load()
            exif = Image.Image.getexif(image)  # the method for PNG always decodes the pixels to find data after them
            orientation = exif.get(ORIENTATION)
        orientation = orientation if orientation in range(1, 9) else 1  # none, or text in a hostile file
        size = stored[::-1] if orientation >= 5 else stored
        return Header(size, stored, orientation, kind, mode, deep)


def image_paths(
    folder: str | os.PathLike, recursive: bool = False, leave_out: Iterable[str | os.PathLike] = ()
) -> list[Path]:
    """Paths of the images in a folder by their extensions, sorted.

    Extensions may be in upper or lower case. Other files (Thumbs.db, .DS_Store, ...) and hidden files are ignored.

    Args:
        recursive: whether sub-folders are searched too.
        leave_out: sub-folders that are not searched.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of images, found {kind_of(folder)}")
    left_out = {os.path.realpath(path) for path in leave_out}
    entries = _entries(folder, left_out) if recursive else _listed(folder)
    return sorted(
        path
        for path in entries
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def images_by_stem(
    folder: str | os.PathLike,
    recursive: bool = False,
    leave_out: Iterable[str | os.PathLike] = (),
    keep_unreadable: bool = False,
) -> dict[str, Path]:
    """Map name without extension -> path for every image file in `folder`, sorted by path, see `image_paths`.

    With `recursive`, names are paths relative to `folder` with forward slashes, such as "clip1/0003".

    Args:
        keep_unreadable: whether broken links and special files are listed too, so that each fails alone when it is
            read. Otherwise they are an error, because a set that lacks a file is another set.

    Raises:
        InputError: the folder is missing or cannot be read, or two images share a name (see `pairing.name_key`).
    """
    folder = Path(folder)
    found: dict[str, Path] = {}
    taken: dict[str, Path] = {}
    twins: list[str] = []
    for path in image_paths(folder, recursive, leave_out):
        if not keep_unreadable and not path.is_file():
            raise InputError(f"{path}: expected an image file, found {kind_of(path)}")
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if (twin := taken.setdefault(name_key(stem), path)) != path:
            twins.append(_shown_apart(twin.relative_to(folder), path.relative_to(folder)))
        found[stem] = path
    if twins:
        raise InputError(f"{folder}: {twins[0]}" + (f" (the first of {len(twins)} such pairs)" if twins[1:] else ""))
    return found


def _shown_apart(first: Path, second: Path) -> str:
    """Message about two files with one name. Names that look alike are shown with escapes, so that they differ."""
    looks_alike = composed(str(first)) == composed(str(second))
    one, other = (ascii(str(path)) if looks_alike else str(path) for path in (first, second))
    return f"{one} and {other} share a name; names must differ beyond extension, case and Unicode form, move one away"


def passed_over(folder: str | os.PathLike, recursive: bool = False) -> str:
    """Count and name the files that `images_by_stem` ignores, except hidden ones; empty if there are none.

    Example:
        >>> Path("photographs").mkdir()
        >>> Path("photographs", "notes.txt").touch()
        >>> passed_over("photographs")
        'ignored 1 .txt (notes.txt), which are not read (docs/data.md)'
    """
    folder = Path(folder)
    left: dict[str, list[str]] = {}
    for path in sorted(_entries(folder) if recursive else _listed(folder)):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith(".") or path.name.casefold() in NO_PICTURES:
            continue
        if path.is_dir():
            left.setdefault("sub-folder", []).append(name)
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            left.setdefault(path.suffix.lower() or "without suffix", []).append(name)
    if not left:
        return ""
    parts = [
        f"{len(names)} {kind}{'s' if kind == 'sub-folder' and len(names) > 1 else ''} ({name_some(names)})"
        for kind, names in left.items()
    ]
    return f"ignored {' and '.join(parts)}, which are not read (docs/data.md)"


def found_none(folder: str | os.PathLike, recursive: bool = False) -> InputError:
    """Error for a folder without images; the message names the files that are there instead."""
    left = passed_over(folder, recursive)
    return InputError(f"{folder}: expected images, found none" + (f"; {left}" if left else ""))


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error


def _entries(folder: Path, left_out: Collection[str] = frozenset(), above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the entries of `folder` and its sub-folders. Hidden folders and links to a folder above are not entered."""
    here = os.path.realpath(folder)
    if here in above or (above and here in left_out):
        return
    for path in _listed(folder):
        if path.is_dir() and not path.name.startswith("."):
            yield from _entries(path, left_out, (*above, here))
        else:
            yield path


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write (H, W), (H, W, 3) or (H, W, 4) uint8 as PNG, atomically. The folder is created if needed."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=3)


def check_outputs(outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike] = ()) -> None:
    """Refuse outputs that cannot be written, before a long computation starts.

    Args:
        outputs: files to write.
        inputs: files that are read; none of them may be an output.

    Raises:
        InputError: an output is a folder, an image, another output or an input, or its folder cannot be written to.
    """
    read = {os.path.realpath(path) for path in inputs}
    taken: set[str] = set()
    for output in map(Path, outputs):
        target = os.path.realpath(output)
        if os.path.isdir(target):
            raise InputError(f"{output}: expected a file to write to, found a folder; add a file name")
        if target in read or (os.path.exists(target) and output.suffix.lower() in IMAGE_SUFFIXES):
            raise InputError(f"{output}: would be written over an input or an image; choose another name")
        if target in taken:
            raise InputError(f"{output}: would be written over another output; choose another name")
        taken.add(target)
        if not os.path.exists(target) or os.path.isfile(target):
            temporary_beside(output, Path(target)).unlink()


@contextlib.contextmanager
def opened_image(path: str | os.PathLike, decode: bool = True) -> Iterator[Image.Image]:
    """Yield a picture of 1 to MAX_PIXELS pixels, decoded and upright; with `decode=False` only its header is read.

    `info["signed"]` of a decoded picture is set if its integers may be negative.

    Raises:
        InputError: the file is missing, not an image, damaged, animated, too large or an unsupported kind of TIFF; with
            `decode=False` also a TIFF that only tifffile reads.
    """
    with _named_errors(path), _identified(path) as image:
        if image is None:
            if not decode:
                raise tiff.TiffError(f"expected a TIFF of a common kind; {tiff.READ_KINDS}")
            image = tiff.read_tiff(path, MAX_PIXELS)
        elif not decode:
            yield image
            return
        elif found := pillow_faults.reason_to_refuse(image):
            raise InputError(f"{path}: {found}")
        elif image.format == "TIFF" and tiff.is_thumbnail(image.tag_v2):
            raise tiff.TiffError("expected a picture, found a thumbnail of another one in the file; save that one")
        elif image.format == "TIFF" and not tiff.pillow_reads(image.tag_v2, image.tag_v2.prefix == b"MM"):
            orientation = image.getexif().get(ORIENTATION, 1)  # of the tag or of XMP, as in `read_header`
            image = tiff.read_tiff(path, MAX_PIXELS)
            image.getexif()[ORIENTATION] = orientation
        elif pillow_faults.takes_indices_for_levels(image):
            image = _decoded_by_opencv(path, image.size[::-1])
        elif image.format == "JPEG2000":
            jpeg2000.require_known_layout(image.fp)
            if _has_deep_channels(image):
                image = _deep_jpeg2000(path, image.size[::-1])
        elif image.format == "AVIF" and avif.read_properties(image.fp).is_cropped:
            raise InputError(f"{path}: expected a whole picture, found one that is shown cropped; save it as PNG")
        elif image.format == "TIFF" and tiff.is_signed(image.tag_v2):
            image.info["signed"] = True
        ImageOps.exif_transpose(image, in_place=True)  # decodes too; a copy of upright images would take memory
        yield image


def _decoded_by_opencv(path: str | os.PathLike, size: tuple[int, int]) -> Image.Image:
    values = decode_by_opencv(path)
    if values is None or values.shape[:2] != size:
        raise InputError(f"{path}: not a readable image (its pixels are damaged or cut off)")
    return Image.fromarray(values)


def _deep_jpeg2000(path: str | os.PathLike, size: tuple[int, int]) -> Image.Image:
    """An image of mode "I;16", or the rounded levels of several channels."""
    values = jpeg2000.read_values(path, size)
    return Image.fromarray(values if values.ndim == 2 else to_uint8(values, 65535))


@contextlib.contextmanager
def _identified(path: str | os.PathLike) -> Iterator[Image.Image | None]:
    """Yield a file's picture with its header read; None for a TIFF that Pillow does not recognise."""
    if not Path(path).is_file():  # reading a pipe would block
        raise InputError(f"{path}: expected an image file, found {kind_of(Path(path))}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings about sizes, which are checked below, and metadata
        try:
            opened = Image.open(path, formats=_formats())
        except UnidentifiedImageError:
            if not tiff.is_tiff(path):
                raise
            yield None
            return
        with opened as image:
            _check_size(path, *image.size)
            # An MPO is a camera's JPEG with a preview. Frames are not counted, because a GIF may have a million.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise InputError(f"{path}: expected a single image, found several frames; save the one you mean")
            yield image


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Convert any error about a file to an InputError that names the file."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (tiff.TiffError, jpeg2000.Jpeg2000Error) as error:
        raise InputError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: over the limit of {MAX_PIXELS:,} pixels; make it smaller ({error})") from error
    except UnidentifiedImageError as error:  # whose own text is the path again
        found = "unknown or damaged format" if os.path.getsize(path) else "the file is empty"
        raise InputError(f"{path}: not a readable image ({found})") from error
    except Exception as error:  # for bad bytes Pillow's decoders raise TypeError, IndexError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        raise InputError(f"{path}: not a readable image ({str(error) or type(error).__name__})") from error


def _check_size(path: str | os.PathLike, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: {width} x {height} pixels is over the limit of {MAX_PIXELS:,}; make it smaller")


@cache
def _formats() -> tuple[str, ...]:
    """Supported formats of the installed Pillow. Others are excluded, because some of them start programs (EPS)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def is_deep(image: Image.Image) -> bool:
    """Return whether Pillow stores the one channel of an image with more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _has_deep_channels(image: Image.Image) -> bool:
    """Return whether a file of several channels has more than 8 bits in each, which Pillow's mode does not show."""
    if isinstance(image, FloatFile):
        return True
    if image.format == "TIFF":
        return tiff.is_deep(image.tag_v2)
    if image.format == "HEIF":
        return image.info["bit_depth"] > 8  # by pillow-heif
    if image.format == "AVIF":
        return avif.read_properties(image.fp).deep
    if image.format == "JPEG2000":
        return max(jpeg2000.read_channels(image.fp).bits, default=0) > 8
    if any(tile.codec_name == "SGI16" for tile in image.tile):
        return True
    # The decoder's arguments start with the raw mode. Others may follow, such as the bytes of a row for BMP.
    arguments = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    if image.format == "PPM":  # its second argument is the largest value
        return any(level > 255 for given in arguments for level in given[1:2])
    return any(DEEP_RAW_MODE.search(str(mode)) is not None for given in arguments for mode in given[:1])


def deep_to_uint8(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """Scale the channel of an image that `is_deep` to (H, W) uint8; errors as in `deep_values`."""
    values = deep_values(image, path)
    return to_uint8(values, 1 if values.dtype == np.float32 else 65535)


def deep_values(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """Read the channel of an image that `is_deep` as (H, W) uint16, or as float32 in 0..1.

    Raises:
        InputError: a value is outside 0..65535 or 0..1, or the integers are signed, so that their scale is unknown.
    """
    values = np.asarray(image)
    full_scale = 1.0 if image.mode == "F" else 65535.0
    if image.info.get("signed"):
        raise InputError(f"{path}: expected values in 0..65535, found signed integers; {TO_8_BITS}")
    if not (values.min() >= 0 and values.max() <= full_scale):  # also true for NaN
        raise InputError(f"{path}: expected values in 0..{full_scale:g}, found {values.min():g}..{values.max():g}")
    return values.astype(np.float32 if image.mode == "F" else np.uint16, copy=False)


def to_uint8(values: np.ndarray, full_scale: float) -> np.ndarray:
    """Scale values from 0..`full_scale` to rounded 0..255."""
    return to_integers(values, full_scale, np.uint8)


def to_integers(values: np.ndarray, full_scale: float, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Scale values from 0..`full_scale` to the rounded full range of an unsigned type.

    The values are converted in parts, because float64 takes 8 bytes per value.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    levels = np.empty(values.shape, dtype)
    factor = np.iinfo(dtype).max / full_scale
    for start in range(0, values.size, DEEP_CHUNK):
        part = slice(start, start + DEEP_CHUNK)
        levels.reshape(-1)[part] = np.rint(flat[part].astype(np.float64) * factor)
    return levels
