"""Reading and writing image files: every mode and bit depth in, 8-bit arrays out.

All programs and data sets read through here, so a palette PNG, a 16-bit TIFF or a truncated JPEG means the same
thing everywhere. Files are untrusted: sizes are bounded, truncation is an error, nothing is unpickled.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data.images.trimap import quantise_trimap
from runtime.errors import InputError
from runtime.files import kind_of, replacing, temporary_beside

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
_TO_8_BITS = "scale the file to 8 bits and save it as PNG"
MAX_PIXELS = 400_000_000  # 20000 x 20000: above any photograph, below what exhausts a workstation's memory
DEEP_RAW_MODE = re.compile(r";16[BLN]$")  # Pillow's 16 bits a channel: "RGB;16B"; "BGR;16" is 16 bits a pixel
LARGEST_TINT = 32  # levels between the channels of a gray picture that went through JPEG
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
            return np.repeat(_deep_to_uint8(image, path)[..., None], 3, axis=2)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_gray(path: str | os.PathLike) -> np.ndarray:
    """Read a matte or trimap as (H, W) uint8.

    A multi-channel file is read by its first colour channel, as the Composition-1k evaluation code does (gray
    saved as RGB has equal channels). 16-bit values are scaled to 8, float values are taken as [0, 1].

    Raises:
        InputError: as `read_rgb`.
    """
    with opened_image(path) as image:
        if is_deep(image):
            return _deep_to_uint8(image, path)
        if image.mode in ("L", "LA", "1"):
            return np.asarray(image.convert("L") if image.mode == "1" else image.getchannel(0))
        return np.asarray(image.convert("RGB").getchannel(0))


def read_matte(path: str | os.PathLike) -> np.ndarray:
    """Read a matte as `read_gray`, and refuse a colour picture in its place.

    Raises:
        InputError: as `read_rgb`; or channels that differ by more than compression explains.
    """
    with opened_image(path) as image:
        if image.mode not in ("L", "LA", "1") and not is_deep(image):
            channels = np.asarray(image.convert("RGB"))
            if int(np.max(np.ptp(channels, axis=-1))) > LARGEST_TINT:
                raise InputError(
                    f"{path}: expected a gray alpha, found a picture in colours; are photographs and alphas exchanged?"
                )
    return read_gray(path)


def read_gray_exact(path: str | os.PathLike, first_channel: bool = False) -> np.ndarray:
    """Read (H, W) uint8 whose values are the file's own, for measuring: nothing is scaled or chosen unseen.

    Args:
        first_channel: of a multi-channel file take the first, as the Composition-1k evaluation code does with
            truths. By default the colour channels must be equal and an alpha channel opaque.

    Raises:
        InputError: as `read_rgb`; 16-bit or float values; several channels that are not one matte.
    """
    with opened_image(path) as image:
        if is_deep(image):
            raise InputError(f"{path}: expected 8-bit values, found mode {image.mode}; {_TO_8_BITS}")
        if image.mode == "L":
            return np.asarray(image)
        if has_deep_channels(path):  # Pillow would drop the lower byte without a word
            raise InputError(f"{path}: expected 8-bit values, found 16 bits in each of several channels; {_TO_8_BITS}")
        if first_channel:
            return np.asarray(image.convert("RGB").getchannel(0))
        channels = np.asarray(image.convert("RGBA"))
    if (channels[..., :3] != channels[..., :1]).any() or (channels[..., 3] != 255).any():
        raise InputError(
            f"{path}: expected one gray channel, found mode {image.mode} whose channels differ or are transparent; "
            "save it as an 8-bit gray PNG"
        )
    return np.ascontiguousarray(channels[..., 0])


def read_trimap(path: str | os.PathLike) -> np.ndarray:
    """Read a trimap as (H, W) uint8 of exactly 0 (background), 128 (unknown) and 255 (foreground)."""
    return quantise_trimap(read_gray(path))


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """Return (height, width) from the file's header, EXIF orientation applied, without decoding the pixels."""
    with opened_image(path, decode=False) as image:
        width, height = image.size
        exif = Image.Image.getexif(image)  # Pillow's own for PNG would decode the pixels to look behind them
        turned = exif.get(0x0112) in (5, 6, 7, 8)  # those orientations swap the axes; a hostile file may hold text
        return (width, height) if turned else (height, width)


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

    Raises:
        InputError: nothing there, no image, damaged, animated or too large.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would keep us waiting
            raise InputError(f"{path}: expected an image file, found {kind_of(path)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: of sizes, our own limit follows, and of metadata
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"{path}: {width} x {height} pixels is over the limit of {MAX_PIXELS:,}; make it smaller"
                    )
                # An MPO is a camera's JPEG with its preview. Frames are not counted: a GIF may hold a million.
                if getattr(image, "is_animated", False) and image.format != "MPO":
                    raise InputError(f"{path}: expected a single image, found several frames; save the one you mean")
                if not decode:
                    yield image
                    return
                image.load()
                ImageOps.exif_transpose(image, in_place=True)  # the other form copies upright images too
                yield image
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: over the limit of {MAX_PIXELS:,} pixels; make it smaller ({error})") from error
    except Exception as error:  # bad bytes lead Pillow's decoders to TypeError, IndexError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        raise InputError(f"{path}: not a readable image ({str(error) or type(error).__name__})") from error


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds the one channel in more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def has_deep_channels(path: str | os.PathLike) -> bool:
    """Whether a file of several channels holds more than 8 bits in each; the mode that Pillow gives it does not say."""
    with opened_image(path, decode=False) as image:
        if image.format == "TIFF":
            bits = image.tag_v2.get(258, 8)  # BitsPerSample
            return max(bits if isinstance(bits, tuple) else (bits,)) > 8
        # what the decoder is given: the raw mode, alone or before other settings (for BMP the bytes of a row)
        arguments = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
        if image.format == "PPM":  # the second is the largest value
            return any(level > 255 for given in arguments for level in given[1:2])
        return any(DEEP_RAW_MODE.search(str(mode)) is not None for given in arguments for mode in given[:1])


def _deep_to_uint8(image: Image.Image, path: str | os.PathLike) -> np.ndarray:
    values = np.asarray(image)
    full_scale = 1.0 if image.mode == "F" else 65535.0
    if values.size and not (values.min() >= 0 and values.max() <= full_scale):
        raise InputError(f"{path}: expected values in 0..{full_scale:g}, found {values.min():g}..{values.max():g}")
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, values.size, DEEP_CHUNK):
        part = slice(start, start + DEEP_CHUNK)
        levels.reshape(-1)[part] = np.rint(values.reshape(-1)[part].astype(np.float64) * (255.0 / full_scale))
    return levels
