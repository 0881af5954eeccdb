"""A picture and a matte or trimap of it: whether they are on one pixel grid.

A camera stores pixels as its sensor saw them and adds an EXIF orientation; many programs that paint or save mattes drop
it. Files are read upright here, so a matte that was drawn on the stored pixels, without the tag, does not fit.
"""

import os

from data.images.files import Header, read_header

DRAWN_ON_STORED_PIXELS = (
    "EXIF orientation other than that of the file it belongs to; both are taken upright. If the program that wrote it "
    "ignores the orientation, it is turned or mirrored against that file: save both upright without the tag"
)


def turned_apart(picture: str | os.PathLike, other: str | os.PathLike) -> str:
    """A remark where two files of one upright size differ in their EXIF orientation and may be meant as stored.

    Where their stored sizes differ, as for quarter turns of what is not square, only the upright reading fits.

    Returns:
        The remark, or an empty string.

    Raises:
        InputError: as `data.images.files.read_header`.
    """
    first, second = read_header(picture), read_header(other)
    if first.orientation == second.orientation or first.stored_size != second.stored_size:
        return ""
    return DRAWN_ON_STORED_PIXELS


def size_hint(picture: str | os.PathLike, other: str | os.PathLike) -> str:
    """Why the sizes of two files differ, as the end of a message: an EXIF orientation that one of them lacks, or "".

    Raises:
        InputError: as `data.images.files.read_header`.
    """
    first, second = read_header(picture), read_header(other)
    if first.orientation == second.orientation or first.stored_size != second.stored_size:
        return ""
    return (
        f"; as stored both are {_size(first)}, but {picture} has the EXIF orientation {first.orientation} and {other} "
        f"{_orientation(second)}: save both upright without the tag"
    )


def _size(header: Header) -> str:
    return f"{header.stored_size[1]} x {header.stored_size[0]}"


def _orientation(header: Header) -> str:
    return "none" if header.orientation == 1 else str(header.orientation)
