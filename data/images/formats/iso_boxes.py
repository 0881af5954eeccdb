"""Boxes of JP2 and AVIF files, which both follow the layout of the ISO base media format (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, NamedTuple

MOST_BOXES = 10_000  # a hostile file may have a box for every 8 bytes
MOST_BYTES = 2**16  # of a box, more than the parts of a header have


class Box(NamedTuple):
    """Type of a box, and the place of its content in the file."""

    kind: bytes
    begin: int
    end: int


def boxes(file: BinaryIO, begin: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of a file, or those between two places, at most `MOST_BOXES`.

    A box of a cut-off file ends where the file ends.
    """
    end = file.seek(0, 2) if end is None else end
    for _ in range(MOST_BOXES):
        if begin + 8 > end:
            return
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


def content(file: BinaryIO, box: Box, most: int = MOST_BYTES) -> bytes:
    """The bytes in a box, at most `most` of them."""
    file.seek(box.begin)
    return file.read(min(box.end - box.begin, most))
