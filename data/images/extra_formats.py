"""What other libraries read for Pillow: EXR, TIFF of floats, HEIC. Importing this module registers them with it.

A file of floats (`FloatFile`) opens wherever a picture does, and shows its values as they are, 0 to 1 as levels 0 to
255: right for mattes, trimaps and masks. The values of a photograph are light, see `data.images.light`.
"""

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from data.images import tiff
from runtime.errors import InputError

INSTALL = "install it with `pip install -r requirements/formats.txt`"
EXR_MAGIC = b"\x76\x2f\x31\x01"
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
MOST_BYTES = 16 * 400_000_000  # of a file's channels together, as floats: four of the largest picture


def import_openexr(path: str | os.PathLike) -> ModuleType:
    """The module `OpenEXR`, an extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise InputError(f"{path}: EXR files need OpenEXR; {INSTALL}, or use a 16-bit PNG or TIFF") from error
    return OpenEXR


class FloatFile(ImageFile.ImageFile):
    """A picture of floats.

    Attributes:
        values: (H, W) or (H, W, C) float32, upright, once it is loaded; C is 3 or 4.
        usual_transfer: "linear" or "srgb", what the values of photographs in such files are by convention.
    """

    values: np.ndarray | None = None
    usual_transfer: str

    def _values(self) -> np.ndarray:
        raise NotImplementedError

    def is_within(self, low: float, high: float) -> bool:
        """Whether all values are in a range, ends included."""
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
    """An OpenEXR file: of the first part that has them the channels R, G, B and A, or Y, or A alone."""

    format = "EXR"
    usual_transfer = "linear"

    def _open(self) -> None:
        path = self.filename
        exr = import_openexr(path)
        with exr.File(path, header_only=True) as file:  # which empties its headers when it closes
            headers = [file.header(part) for part in range(len(file.parts))]
            self._part, self._names = self._chosen(headers)
            nbytes = 4 * sum(_area(header["dataWindow"]) * len(header["channels"]) for header in headers)
            self._num_parts, header = len(headers), headers[self._part]
            # corners (2, 2), x before y
            self._data, self._display = (np.array(header[name], int) for name in ("dataWindow", "displayWindow"))
        if nbytes > MOST_BYTES:
            raise InputError(
                f"{path}: its channels take {nbytes:,} bytes, over the limit of {MOST_BYTES:,}; save fewer"
            )
        if any(window[1][axis] < window[0][axis] for window in (self._data, self._display) for axis in (0, 1)):
            raise InputError(f"{path}: not a readable image (an empty window)")
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
            f"{self.filename}: expected an EXR with channels R, G and B, or Y, of one sample a pixel, found "
            f"{', '.join(found[:12]) or 'none'}; save the layer you mean as a picture"
        )

    def _values(self) -> np.ndarray:
        with import_openexr(self.filename).File(self.filename, separate_channels=True) as file:
            if len(file.parts) != self._num_parts:  # the library leaves out a part whose pixels it cannot read
                raise ValueError("its pixels are damaged or cut off")
            channels = file.channels(self._part)
            planes = [channels[name].pixels for name in self._names]
            if any(plane.dtype.kind != "f" for plane in planes):
                raise InputError(f"{self.filename}: expected channels of half or float, found {planes[0].dtype}")
            values = np.stack(planes, axis=-1).astype(np.float32)
        if not np.array_equal(self._data, self._display):  # a part of the picture is stored, or more than it
            values = _windowed(values, self._data, self._display)
        return values[..., 0] if len(self._names) == 1 else values


class FloatTiffFile(FloatFile):
    """A TIFF that Pillow does not know: floats in three or four channels, or of 16 or 64 bits."""

    format = "FLOAT-TIFF"
    usual_transfer = "srgb"

    def _open(self) -> None:
        from tifffile import TiffFile, TiffFileError  # it takes 0.1 s to import, and few runs meet such a file

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
            if len(file.pages) > 1 or channels not in (1, 3, 4) or page.photometric.name not in ("RGB", "MINISBLACK"):
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
        values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        return np.ascontiguousarray(_upright(values, self._orientation), np.float32)


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _windowed(values: np.ndarray, data: Any, display: Any) -> np.ndarray:
    """The pixels of the display window; those that are not stored are 0, as in OpenEXR's viewers."""
    width, height = _size(display)
    shown = np.zeros((height, width, values.shape[2]), np.float32)
    left, top = (int(data[0][axis]) - int(display[0][axis]) for axis in (0, 1))
    rows, columns = (
        slice(max(0, start), max(0, min(stored + start, length)))
        for start, stored, length in ((top, values.shape[0], height), (left, values.shape[1], width))
    )
    part = values[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    shown[rows, columns][: part.shape[0], : part.shape[1]] = part
    return shown


def _size(window: Any) -> tuple[int, int]:
    """(width, height) of a window, whose corners are both inside."""
    return tuple(int(window[1][axis]) - int(window[0][axis]) + 1 for axis in (0, 1))


def _area(window: Any) -> int:
    width, height = _size(window)
    return max(0, width) * max(0, height)


def _open_heif(fp: Any, filename: Any) -> ImageFile.ImageFile:
    """What Pillow calls to open a HEIC file."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        name = os.fsdecode(filename) or "the file"
        raise InputError(f"{name}: HEIC files need pillow-heif; {INSTALL}, or save it as PNG or JPEG") from error
    return HeifImageFile(fp, filename)


Image.register_open("EXR", ExrFile, lambda start: start[:4] == EXR_MAGIC)
Image.register_open("FLOAT-TIFF", FloatTiffFile, lambda start: start[:4] in tiff.MAGIC)
Image.register_open("HEIF", _open_heif, lambda start: start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS)
