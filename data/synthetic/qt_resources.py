"""Reading files in a Qt resource archive (.rcc), in which Qt programs store their pictures."""

import struct
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import InputError

MAGIC = b"qres"
COMPRESSED, FOLDER = 1 | 4, 2  # flags of an entry; 1 is zlib, 4 Zstandard
DEEPEST = 32  # largest depth of folders


def resource_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name (without folders) and the content of every file that is stored without compression.

    Raises:
        InputError: not an archive, or a damaged one.
    """
    content = path.read_bytes()
    if content[:4] != MAGIC or len(content) < 20:
        raise InputError(f"{path}: expected a Qt resource archive, found other data")
    try:
        yield from _Archive(content).files(0, DEEPEST)
    except (struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged Qt resource archive: {error}") from error


class _Archive:
    def __init__(self, content: bytes):
        self.content = content
        version, self.tree, self.data, self.names = struct.unpack_from(">4I", content, 4)
        self.entry_size = 22 if version >= 2 else 14  # later versions include the modification time

    def files(self, entry: int, depth: int) -> Iterator[tuple[str, bytes]]:
        start = self.tree + entry * self.entry_size
        name_offset, flags = struct.unpack_from(">IH", self.content, start)
        if flags & FOLDER:
            count, first = struct.unpack_from(">II", self.content, start + 6)
            if depth == 0 or count > len(self.content) // self.entry_size:
                raise struct.error("folders refer to each other")
            for child in range(first, first + count):
                yield from self.files(child, depth - 1)
        elif not flags & COMPRESSED:
            (offset,) = struct.unpack_from(">I", self.content, start + 10)
            (length,) = struct.unpack_from(">I", self.content, self.data + offset)
            begin = self.data + offset + 4
            yield self._name(name_offset), self.content[begin : begin + length]

    def _name(self, offset: int) -> str:
        (length,) = struct.unpack_from(">H", self.content, self.names + offset)
        begin = self.names + offset + 6  # after length and hash
        return self.content[begin : begin + 2 * length].decode("utf-16-be")
