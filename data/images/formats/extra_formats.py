"""Readers for EXR, float TIFF and HEIC. Importing this module registers them with Pillow.

A float file (`FloatFile`) can be opened like any picture. Its levels 0 to 255 are its values 0 to 1 without a curve,
which is right for mattes, trimaps and masks. The values of a photograph may be light, see `data.images.light`.
"""

import math
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from data.images.formats import tiff
from runtime.errors import InputError

INSTALL = "install it with `pip install -r requirements/formats.txt`"
EXR_MAGIC = b"\x76\x2f\x31\x01"
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
MOST_BYTES = 16 * 400_000_000  # limit of a file's channels as floats: four channels of the largest picture


def import_openexr(path: str | os.PathLike) -> ModuleType:
    """Import `OpenEXR`, an optional dependency.

    Raises:
        InputError: the module is not installed.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError(f"{path}: EXR files need OpenEXR; {INSTALL}, or use a 16-bit PNG or TIFF") from error
    return OpenEXR


class FloatFile(ImageFile.ImageFile):
    """A picture with float values.

    Attributes:
        values: (H, W) or (H, W, C) float32, upright, with C of 3 or 4; None before the picture is loaded.
        usual_transfer: "linear" or "srgb", the conventional meaning of the values of photographs in this format.
    """

    values: np.ndarray | None = None
    usual_transfer: str

    def _values(self) -> np.ndarray:
        raise NotImplementedError

    def is_within(self, low: float, high: float) -> bool:
        """Return whether all values are in a range that includes its ends."""
        return bool(((self.values >= low) & (self.values <= high)).all())

    def _describe(self, size: tuple[int, int], channels: int) -> None:
        self._size, self._mode = size, {1: "F", 3: "RGB", 4: "RGBA"}[channels]

    def load(self) -> Any:
        if self.values is None:
            self.values = self._values()
            shown = self.values
            if shown.ndim == 3:
                shown = np.rint(np.clip(np.nan_to_num(shown), 0, 1) * np.float32(255)).astype(np.uint8)
            decoded = Image.fromarray(shown)
            self.im, self._mode, self._size, self.tile = decoded.im, decoded.mode, decoded.size, []
        return Image.Image.load(self)


class ExrFile(FloatFile):
    """An OpenEXR file. The channels R, G, B (and A), or Y, or A are read from the first part that has them."""

    format = "EXR"
    usual_transfer = "linear"

    def _open(self) -> None:
        path = self.filename
        exr = import_openexr(path)
        with exr.File(path, header_only=True) as file:  # its headers are empty after it is closed
            headers = [file.header(part) for part in range(len(file.parts))]
            self._part, self._names = self._chosen(headers)
            nbytes = 4 * sum(math.prod(_size(header["dataWindow"])) * len(header["channels"]) for header in headers)
            self._num_parts, header = len(headers), headers[self._part]
            # (2, 2), the upper left and lower right corners as x, y
            self._data, self._display = (np.array(header[name], int) for name in ("dataWindow", "displayWindow"))
        if nbytes > MOST_BYTES:
            raise InputError(
                f"{path}: its channels take {nbytes:,} bytes, over the limit of {MOST_BYTES:,}; save fewer"
            )
        self._describe(_size(self._display), len(self._names))

    def _chosen(self, headers: Sequence[dict]) -> tuple[int, Sequence[str]]:
        found = []
        for part, header in enumerate(headers):
            names = {channel.name for channel in header["channels"]}
            found += sorted(names)
            if "deep" in str(header["type"]) or any((c.xSampling, c.ySampling) != (1, 1) for c in header["channels"]):
                continue
            for wanted in ("RGBA", "RGB", "Y", "A"):
                if names.issuperset(wanted):
                    return part, wanted
        raise InputError(
            f"{self.filename}: expected an EXR with channels R, G and B, or Y, of one sample per pixel, found "
            f"{', '.join(found[:12]) or 'none'}; save the layer you mean as a picture"
        )

    def _values(self) -> np.ndarray:
        with import_openexr(self.filename).File(self.filename, separate_channels=True) as file:
            if len(file.parts) != self._num_parts:  # the library omits a part whose pixels it cannot read
                raise ValueError("its pixels are damaged or cut off")
            channels = file.channels(self._part)
            planes = [channels[name].pixels for name in self._names]
            if any(plane.dtype.kind != "f" for plane in planes):
                raise InputError(f"{self.filename}: expected channels of half or float, found {planes[0].dtype}")
            values = np.stack(planes, axis=-1).astype(np.float32)
        if not np.array_equal(self._data, self._display):  # the stored window is smaller or larger than the picture
            values = _windowed(values, self._data, self._display)
        return values[..., 0] if len(self._names) == 1 else values


class FloatTiffFile(FloatFile):
    """A float TIFF that Pillow cannot read: with three or four channels, or with 16 or 64 bits."""

    format = "FLOAT-TIFF"
    usual_transfer = "srgb"

    def _open(self) -> None:
        from tifffile import TiffFile, TiffFileError  # here, because the import takes 0.1 s and few runs need it

        try:
            file = TiffFile(self.filename)
        except TiffFileError as error:
            raise SyntaxError(error) from error
        with file:
            page = file.pages[0]
            if page.dtype is None or page.dtype.kind != "f":
                raise SyntaxError("no floats")
            channels = page.samplesperpixel
            kind = f"{page.bitspersample}-bit float TIFF of kind {page.photometric.name}"
            if len(file.pages) > 1 or channels not in {"RGB": (3, 4), "MINISBLACK": (1,)}.get(
                page.photometric.name, ()
            ):
                raise InputError(
                    f"{self.filename}: {kind} with {channels} channels and {len(file.pages)} pictures is not read; "
                    "expected one picture of gray, RGB or RGBA"
                )
            orientation = page.tags.get(tiff.ORIENTATION)
            self._orientation = 1 if orientation is None else orientation.value
            if (profile := page.tags.get(34675)) is not None:
                self.info["icc_profile"] = profile.value
            size = (page.imagewidth, page.imagelength)
            self._describe(size[::-1] if self._orientation in (5, 6, 7, 8) else size, channels)

    def _values(self) -> np.ndarray:
        from tifffile import TiffFile

        with TiffFile(self.filename) as file:
            page = file.pages[0]
            tiff.require_bounded(page)
            values = page.asarray()
            if values.ndim == 3 and int(page.planarconfig) == 2:
                values = np.moveaxis(values, 0, -1)
        return np.ascontiguousarray(upright(values, self._orientation), np.float32)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _windowed(values: np.ndarray, data: np.ndarray, display: np.ndarray) -> np.ndarray:
    """Pixels of the display window. Pixels that are not stored are 0, as in OpenEXR's viewers."""
    width, height = _size(display)
    shown = np.zeros((height, width, values.shape[2]), np.float32)
    first, end = np.maximum(data[0], display[0]), np.minimum(data[1], display[1]) + 1  # x, y
    if (first < end).all():
        target, source = (
            tuple(slice(first[axis] - window[0][axis], end[axis] - window[0][axis]) for axis in (1, 0))
            for window in (display, data)
        )
        shown[target] = values[source]
    return shown


def _size(window: Any) -> tuple[int, int]:
    """(width, height) of a window. Both corners are inside it; OpenEXR refuses a file with an empty window."""
    return tuple(int(window[1][axis]) - int(window[0][axis]) + 1 for axis in (0, 1))


def _open_heif(fp: Any, filename: Any) -> ImageFile.ImageFile:
    """Open a HEIC file; Pillow calls this function."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        name = os.fsdecode(filename) or "the file"
        raise InputError(f"{name}: HEIC files need pillow-heif; {INSTALL}, or save it as PNG or JPEG") from error
    return HeifImageFile(fp, filename)


Image.register_open("EXR", ExrFile, lambda start: start[:4] == EXR_MAGIC)
Image.register_open("FLOAT-TIFF", FloatTiffFile, lambda start: start[:4] in tiff.MAGIC)
Image.register_open("HEIF", _open_heif, lambda start: start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS)
