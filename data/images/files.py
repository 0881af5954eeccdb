"""Reading and writing image files: every mode and bit depth in, 8-bit arrays out.

All programs and data sets read through here, so a palette PNG, a 16-bit TIFF or a truncated JPEG means the same
thing everywhere. Files are untrusted: sizes are bounded, truncation is an error, nothing is unpickled.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.images import tiff
from runtime.errors import InputError
from runtime.files import kind_of, replacing, temporary_beside
from runtime.text import name_some

FORMATS = {  # of Pillow, in the order they are tried, with the suffixes by which folders are searched
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "PCX": (".pcx",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),  # last: nothing in such a file says that it is one
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
NO_PICTURES = frozenset({"thumbs.db", "desktop.ini"})  # what systems put beside pictures; nobody means them
ORIENTATION = 0x0112  # EXIF tag: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 with the axes swapped
TO_8_BITS = "scale the file to 8 bits and save it as PNG"
MAX_PIXELS = 400_000_000  # 20000 x 20000: above any photograph, below what exhausts a workstation's memory
DEEP_RAW_MODE = re.compile(r";16[BLN]$")  # Pillow's 16 bits a channel: "RGB;16B"; "BGR;16" is 16 bits a pixel
DEEP_CHUNK = 2**20  # pixels of more than 8 bits converted at a time: in float64 all would take 16 bytes each
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own guard would refuse from 179 million on; it stays, behind ours


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read a photograph as (H, W, 3) uint8 RGB.

    Gray and palette images are expanded, an alpha channel is dropped (not composited: its colours are the
    photograph), 16-bit values are scaled to 8, and the EXIF orientation is applied.

    Raises:
        InputError: missing, unreadable, truncated, animated or larger than `MAX_PIXELS`.
    """
    with opened_image(path) as image:
        if is_deep(image):
            return np.repeat(deep_to_uint8(image, path)[..., None], 3, axis=2)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_gray(path: str | os.PathLike) -> np.ndarray:
    """Read the first colour channel of a file as (H, W) uint8, whatever the others hold.

    16-bit values are scaled to 8, float values are taken as [0, 1]. For mattes and trimaps, whose other channels
    matter, see `data.images.mattes`.

    Raises:
        InputError: as `read_rgb`.
    """
    with opened_image(path) as image:
        if is_deep(image):
            return deep_to_uint8(image, path)
        if image.mode in ("L", "LA", "1"):
            return np.asarray(image.convert("L") if image.mode == "1" else image.getchannel(0))
        return np.asarray(image.convert("RGB").getchannel(0))


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return (height, width) from the file's header, EXIF orientation applied, without decoding the pixels."""
    return read_header(path).size


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        size: (height, width), upright.
        stored_size: (height, width) before the EXIF orientation is applied.
        orientation: EXIF's, 1 for upright.
        format, mode: as Pillow calls them; the mode is empty where Pillow does not know the file.
        deep: more than 8 bits in a channel.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    format: str
    mode: str
    deep: bool


def read_header(path: str | os.PathLike) -> Header:
    """Read a file's header without decoding the pixels.

    Raises:
        InputError: as `read_rgb`, but for damage in the pixels.
    """
    with _named_errors(path), _identified(path) as image:
        if image is None:
            found = tiff.read_header(path)
            _check_size(path, *found.size[::-1])
            stored, orientation, kind, mode = found.size, found.orientation, "TIFF", ""
            deep = found.bits > 8
        else:
            stored = tiff.stored_size(image.tag_v2) if image.format == "TIFF" else image.size[::-1]
            exif = Image.Image.getexif(image)  # Pillow's own for PNG would decode the pixels to look behind them
            orientation = exif.get(ORIENTATION, 1)
            kind, mode = image.format or "", image.mode
            deep = is_deep(image) or _has_deep_channels(image)
        orientation = orientation if orientation in range(1, 9) else 1  # a hostile file may hold text
        size = stored[::-1] if orientation >= 5 else stored
        return Header(size, stored, orientation, kind, mode, deep)


def images_by_stem(folder: str | os.PathLike, ignore_case: bool = False, recursive: bool = False) -> dict[str, Path]:
    """Map name without extension -> path for every image file in `folder`, sorted by name.

    Extensions count in any case; other files (Thumbs.db, .DS_Store, ...) and hidden ones are ignored.

    Args:
        ignore_case: the keys are lower case, to pair Cat.JPG with cat.png.
        recursive: look into sub-folders too; the keys are then paths relative to `folder`, "clip1/0003", with
            forward slashes everywhere.

    Raises:
        InputError: no such folder, one that cannot be read, or two images share a key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of images, found {kind_of(folder)}")
    found: dict[str, Path] = {}
    for path in sorted(_files_under(folder) if recursive else folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or path.is_dir():
            continue
        if not path.is_file():
            raise InputError(f"{path}: expected an image file, found a broken link or something that is no file")
        stem = path.relative_to(folder).with_suffix("").as_posix()
        stem = stem.casefold() if ignore_case else stem
        if stem in found:
            raise InputError(
                f"{folder}: {found[stem].relative_to(folder)} and {path.relative_to(folder)} share a name; names "
                "must differ beyond the extension, remove one"
            )
        found[stem] = path
    return found


def passed_over(folder: str | os.PathLike, recursive: bool = False) -> str:
    """Count and name what `images_by_stem` leaves out of a folder, hidden files aside; empty where there is nothing.

    Example:
        >>> passed_over("photographs")  # doctest: +SKIP
        'passed over 2 .heic (a.heic, b.heic) and 1 sub-folder (raw), which are not read (docs/data.md)'
    """
    folder = Path(folder)
    left: dict[str, list[str]] = {}
    for path in sorted(_files_under(folder) if recursive else folder.iterdir()):
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
    return f"passed over {' and '.join(parts)}, which are not read (docs/data.md)"


def found_none(folder: str | os.PathLike, recursive: bool = False) -> InputError:
    """The error for a folder without an image, naming what is there instead."""
    left = passed_over(folder, recursive)
    return InputError(f"{folder}: expected images, found none" + (f"; {left}" if left else ""))


def _files_under(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield what is in `folder` and its sub-folders but hidden ones; a link back to a folder above is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    for path in entries:
        if path.is_dir() and not path.name.startswith("."):
            yield from _files_under(path, (*above, here))
        else:
            yield path


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write (H, W), (H, W, 3) or (H, W, 4) uint8 as PNG, whole or not at all, making the folder if needed."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=3)


def check_outputs(outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike] = ()) -> None:
    """Refuse, before long work, outputs that could not be written at its end.

    Args:
        outputs: files to be written.
        inputs: files that are read; an output must be none of them.

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
    """Yield one picture of at most MAX_PIXELS: decoded and upright, or with `decode=False` only its header read.

    `info["signed"]` of what is decoded says that its integers may be negative.

    Raises:
        InputError: nothing there, no image, damaged, animated, too large, or a TIFF of a kind that is not read; with
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
        elif image.format == "TIFF" and not tiff.pillow_reads(image.tag_v2, image.tag_v2.prefix == b"MM"):
            image = tiff.read_tiff(path, MAX_PIXELS)
        else:
            image.load()
            if image.format == "TIFF" and tiff.is_signed(image.tag_v2):
                image.info["signed"] = True
        ImageOps.exif_transpose(image, in_place=True)  # the other form copies upright images too
        yield image


@contextlib.contextmanager
def _identified(path: str | os.PathLike) -> Iterator[Image.Image | None]:
    """Yield a file's picture, its header read; None for a TIFF that Pillow does not know."""
    if not Path(path).is_file():  # a pipe would keep us waiting
        raise InputError(f"{path}: expected an image file, found {kind_of(Path(path))}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: of sizes, our own limit follows, and of metadata
        try:
            opened = Image.open(path, formats=_formats())
        except UnidentifiedImageError:
            if not tiff.is_tiff(path):
                raise
            yield None
            return
        with opened as image:
            _check_size(path, *image.size)
            # An MPO is a camera's JPEG with its preview. Frames are not counted: a GIF may hold a million.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise InputError(f"{path}: expected a single image, found several frames; save the one you mean")
            yield image


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike) -> Iterator[None]:
    """Make what goes wrong with a file an InputError that names it."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except tiff.TiffError as error:
        raise InputError(f"{path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: over the limit of {MAX_PIXELS:,} pixels; make it smaller ({error})") from error
    except Exception as error:  # bad bytes lead Pillow's decoders to TypeError, IndexError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        raise InputError(f"{path}: not a readable image ({str(error) or type(error).__name__})") from error


def _check_size(path: str | os.PathLike, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: {width} x {height} pixels is over the limit of {MAX_PIXELS:,}; make it smaller")


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read and that this Pillow knows: no others, some of which start programs (EPS)."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds the one channel in more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _has_deep_channels(image: Image.Image) -> bool:
    """Whether a file of several channels holds more than 8 bits in each; the mode that Pillow gives it does not say."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, 8)  # BitsPerSample
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    # what the decoder is given: the raw mode, alone or before other settings (for BMP the bytes of a row)
    arguments = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    if image.format == "PPM":  # the second is the largest value
        return any(level > 255 for given in arguments for level in given[1:2])
    return any(DEEP_RAW_MODE.search(str(mode)) is not None for given in arguments for mode in given[:1])


def deep_to_uint8(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    """Scale the one channel of an image that `is_deep` to (H, W) uint8: 16 bits from 0..65535, floats from 0..1.

    Raises:
        InputError: values outside that scale, or signed ones, whose scale nobody knows.
    """
    values = np.asarray(image)
    full_scale = 1.0 if image.mode == "F" else 65535.0
    if image.info.get("signed"):
        raise InputError(f"{path}: expected values in 0..65535, found signed integers; {TO_8_BITS}")
    if values.size and not (values.min() >= 0 and values.max() <= full_scale):
        raise InputError(f"{path}: expected values in 0..{full_scale:g}, found {values.min():g}..{values.max():g}")
    return to_uint8(values, full_scale)


def to_uint8(values: np.ndarray, full_scale: float) -> np.ndarray:
    """Scale values from 0 to `full_scale` to 0..255, rounded; in parts, since double precision takes 8 bytes each."""
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, values.size, DEEP_CHUNK):
        part = slice(start, start + DEEP_CHUNK)
        levels.reshape(-1)[part] = np.rint(values.reshape(-1)[part].astype(np.float64) * (255.0 / full_scale))
    return levels
