"""Boxes of JP2 and AVIF files, which both follow the layout of the ISO base media format (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, NamedTuple


class Box(NamedTuple):
    """Type of a box, and the place of its content in the file."""

    kind: bytes
    begin: int
    end: int


def boxes(file: BinaryIO, begin: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of a file, or those between two places. A box of a cut-off file ends where the file ends."""
    end = file.seek(0, 2) if end is None else end
    while begin + 8 <= end:
        file.seek(begin)
        head = file.read(16)
        length, content = int.from_bytes(head[:4], "big"), begin + 8
        if length == 1:  # the length follows in 8 bytes
            length, content = int.from_bytes(head[8:], "big"), begin + 16
        elif length == 0:  # the last box
            length = end - begin
        if length < content - begin:
            return
        yield Box(head[4:8], content, min(begin + length, end))
        begin += length


def boxes_in(file: BinaryIO, kinds: Sequence[bytes], full: Collection[bytes] = ()) -> list[Box]:
    """Boxes in the first box of the last of `kinds`, which is in the first box of the kind before it, and so on.

    The list is empty if one of them is missing.

    Args:
        full: kinds of boxes with 4 bytes of version and flags before the inner boxes.
    """
    found = list(boxes(file))
    for kind in kinds:
        outer = next((box for box in found if box.kind == kind), None)
        if outer is None:
            return []
        found = list(boxes(file, outer.begin + 4 * (kind in full), outer.end))
    return found


def content(file: BinaryIO, box: Box) -> bytes:
    """The bytes in a box."""
    file.seek(box.begin)
    return file.read(box.end - box.begin)
