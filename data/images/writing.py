"""Writing of pictures in the format of the suffix. Floats are quantised once, to the requested depth."""

import importlib.util
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from data.images.files import to_integers
from data.images.formats.extra_formats import import_openexr
from data.images.light import decode_levels
from runtime.errors import InputError
from runtime.files import replacing

# Bits per channel that each format supports, the default first. In EXR, 16 bits are half floats and 32 bits are floats.
DEPTHS_OF = {".png": (8, 16), ".tif": (8, 16, 32), ".tiff": (8, 16, 32), ".webp": (8,), ".exr": (16, 32)}
DEPTHS = (8, 16, 32)
PNG_LEVEL = 3  # compression level; higher levels take a multiple of the time to save a few percent
_WEBP_SIDE = 16383  # largest side of the format in pixels


def depth_of(path: Path, bits: int | None) -> int:
    """Bits per channel of an output file: the requested bits, else the default of its format.

    Raises:
        InputError: the format is not supported, or does not have this depth.
    """
    suffix = path.suffix.lower()
    if suffix not in DEPTHS_OF:
        lossy = "JPEG changes a matte's known 0 and 255; " if suffix in (".jpg", ".jpeg", ".jpe", ".jfif") else ""
        raise InputError(
            f"{path}: {lossy}results are written as {', '.join(DEPTHS_OF)}; use one of these suffixes, or give a folder"
        )
    check_depth(str(path), suffix, bits)
    return DEPTHS_OF[suffix][0] if bits is None else bits


def check_depth(source: str, suffix: str, bits: int | None) -> None:
    """Refuse a depth that a format does not have.

    Args:
        source: file or options that ask for it, for the message.
        suffix: of the format, a key of `DEPTHS_OF`.
        bits: per channel; None for the default of the format.

    Raises:
        InputError: the format has other depths.
    """
    if bits is not None and bits not in DEPTHS_OF[suffix]:
        held = " or ".join(map(str, DEPTHS_OF[suffix]))
        fitting = ", ".join(each for each, depths in DEPTHS_OF.items() if bits in depths)
        raise InputError(f"{source}: {suffix} supports {held} bits, not {bits}; {fitting} support {bits}")


def check_writable(path: Path, bits: int | None, premultiplied: bool | None = None) -> None:
    """Refuse a picture that could not be written, before a long computation; see `depth_of`. Missing libraries are
    reported too.

    Args:
        premultiplied: whether a cut-out is premultiplied; see `write_picture`.
    """
    depth_of(path, bits)
    if path.suffix.lower() == ".exr":
        if premultiplied is False:
            raise InputError(
                f"{path}: EXR has colours that are multiplied by alpha, by its specification; leave out "
                "--no-premultiplied, or name the output .png, .tif or .webp"
            )
        import_openexr(path)
    if path.suffix.lower() in (".tif", ".tiff") and importlib.util.find_spec("tifffile") is None:
        raise InputError(f"{path}: TIFF needs the package tifffile; install it, or name the output *.png")


def write_picture(
    path: str | os.PathLike,
    picture: np.ndarray,
    bits: int | None = None,
    profile: bytes | None = None,
    premultiplied: bool | None = None,
) -> None:
    """Write a picture atomically, in the format of its suffix. The folder is created if needed.

    EXR files contain linear light and premultiplied colours, as OpenEXR's specification requires. The other formats
    contain the levels of the picture, by default without premultiplication. No format is lossy.

    Args:
        picture: (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB and alpha, not premultiplied; uint8, or floats in [0, 1].
        bits: bits per channel, see `DEPTHS_OF`; None for the default of the format. Floats are rounded once, to this
            depth.
        profile: ICC profile of the colours. It is not written for gray pictures and EXR files.
        premultiplied: whether RGB levels are multiplied by alpha; None for the default of the format. TIFF records
            this; PNG and WebP cannot, and by their specifications colours are not premultiplied.

    Raises:
        InputError: see `depth_of`; EXR without premultiplication; a picture too large for WebP; a full disk.

    Example:
        >>> write_picture("alpha.tif", alpha, bits=16)  # doctest: +SKIP
    """
    path = Path(path)
    depth, suffix = depth_of(path, bits), path.suffix.lower()
    profile = profile if picture.ndim == 3 else None
    if suffix == ".webp" and max(picture.shape[:2]) > _WEBP_SIDE:
        raise InputError(f"{path}: WebP supports at most {_WEBP_SIDE} pixels per side; name the output *.png")
    check_writable(path, bits, premultiplied)
    associated = bool(premultiplied) and picture.ndim == 3 and picture.shape[2] == 4 and suffix != ".exr"
    if associated:
        picture = quantised(picture, 32).copy()
        picture[..., :3] *= picture[..., 3:]
    with replacing(path) as temporary:
        if suffix == ".exr":
            _write_exr(temporary, picture, depth)
        elif suffix in (".tif", ".tiff"):
            _write_tiff(temporary, quantised(picture, depth), profile, associated)
        elif depth == 16 and picture.ndim == 3:
            temporary.write_bytes(_png16(quantised(picture, 16), profile))
        else:
            options = {"PNG": {"compress_level": PNG_LEVEL}, "WEBP": {"lossless": True, "exact": True}}
            kind = suffix[1:].upper()
            image = Image.fromarray(np.ascontiguousarray(quantised(picture, depth)))
            image.save(temporary, format=kind, icc_profile=profile, **options[kind])


def quantised(picture: np.ndarray, bits: int) -> np.ndarray:
    """Convert a picture to a depth: uint8, uint16 or float32.

    Args:
        picture: uint8 levels, or floats, which are rounded to the nearest level. For uint8 and uint16, floats are
            clipped to 0 to 1.

    Example:
        >>> quantised(np.float32([0, 0.5, 1]), 16).tolist(), quantised(np.uint8([1, 255]), 16).tolist()
        ([0, 32768, 65535], [257, 65535])
    """
    if picture.dtype == np.uint8:
        if bits == 8:
            return picture
        return picture * np.uint16(257) if bits == 16 else picture / np.float32(255)
    if bits == 32:
        return picture.astype(np.float32, copy=False)
    return to_integers(picture.clip(0, 1), 1, np.uint8 if bits == 8 else np.uint16)


def _write_tiff(path: Path, picture: np.ndarray, profile: bytes | None, associated: bool) -> None:
    import tifffile

    with_alpha = picture.ndim == 3 and picture.shape[2] == 4
    tifffile.imwrite(
        path,
        picture,
        photometric="minisblack" if picture.ndim == 2 else "rgb",
        extrasamples=["assocalpha" if associated else "unassalpha"] if with_alpha else None,
        compression="zlib",
        iccprofile=profile,
        metadata=None,
        software="DINOMatte",
    )


def _png16(picture: np.ndarray, profile: bytes | None) -> bytes:
    """Encode a PNG of colours with 16 bits per channel by OpenCV, because Pillow has 16 bits for one channel only.

    OpenCV before 5 writes no profile, so its chunk is inserted after the header, which has 33 bytes.
    """
    import cv2  # here, because gray pictures are written without

    swapped = picture[..., [2, 1, 0, 3][: picture.shape[2]]]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(swapped), [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise MemoryError("a PNG could not be encoded")
    png = encoded.tobytes()
    if profile is None:
        return png
    body = b"iCCP" + b"ICC profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def _write_exr(path: Path, picture: np.ndarray, bits: int) -> None:
    exr = import_openexr(path)
    values = quantised(picture, 32)
    if values.ndim == 3:
        light = decode_levels(values[..., :3])
        values = np.dstack([light * values[..., 3:], values[..., 3]]) if values.shape[2] == 4 else light
    kind = np.float16 if bits == 16 else np.float32
    name = {2: "Y", 3: "RGBA"[: values.shape[-1]]}[values.ndim]
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with exr.File(header, {name: np.ascontiguousarray(values, kind)}) as file:
        file.write(str(path))
