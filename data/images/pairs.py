"""Check that a picture and its matte or trimap have the same pixel grid.

A camera stores pixels in the order of its sensor and adds an EXIF orientation. Many programs that paint or save mattes
drop the orientation. Files are read upright, so a matte drawn on the stored pixels, without the tag, does not fit.
"""

import os

from data.images.files import Header, read_header

DRAWN_ON_STORED_PIXELS = (
    "EXIF orientation other than that of the file it belongs to; both are read upright. If the program that wrote it "
    "ignores the orientation, it is turned or mirrored against that file: save both upright without the tag"
)


def turned_apart(picture: str | os.PathLike, other: str | os.PathLike) -> str:
    """Remark on two files of one upright size whose EXIF orientations differ, so that the stored pixels may fit too.

    If the stored sizes differ, as for quarter turns of pictures that are not square, only the upright reading fits.

    Returns:
        The remark, or an empty string.

    Raises:
        InputError: see `data.images.files.read_header`.
    """
    first, second = read_header(picture), read_header(other)
    return DRAWN_ON_STORED_PIXELS if _fit_as_stored_too(first, second) else ""


def size_hint(picture: str | os.PathLike, other: str | os.PathLike) -> str:
    """End of a message about two sizes if they differ because one file lacks an EXIF orientation, else "".

    Raises:
        InputError: see `data.images.files.read_header`.
    """
    first, second = read_header(picture), read_header(other)
    if not _fit_as_stored_too(first, second):
        return ""
    return (
        f"; as stored both are {_size(first)}, but {picture} has the EXIF orientation {first.orientation} and {other} "
        f"{_orientation(second)}: save both upright without the tag"
    )


def _fit_as_stored_too(first: Header, second: Header) -> bool:
    return first.orientation != second.orientation and first.stored_size == second.stored_size


def _size(header: Header) -> str:
    return f"{header.stored_size[1]} x {header.stored_size[0]}"


def _orientation(header: Header) -> str:
    return "none" if header.orientation == 1 else str(header.orientation)
