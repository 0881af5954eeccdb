"""Lists of file names, one per line, as data sets include them with their images."""

import os
from pathlib import Path

from runtime.errors import InputError

LARGEST_LIST = 64 * 2**20  # bytes: a million names


def read_names(path: str | os.PathLike) -> list[str]:
    """Read the file names of a list in its order. Blank lines and the line ends of Windows are accepted.

    Raises:
        InputError: the file does not exist, is not text or has no names, or a line is a path and not a name.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a list of file names, one per line, found no file")
    if path.stat().st_size > LARGEST_LIST:
        raise InputError(f"{path}: expected a list of file names, found {path.stat().st_size:,} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a list of file names in UTF-8, cannot be read ({error})") from error
    names = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
            raise InputError(f"{path}, line {number}: expected the name of a file, got the path {name!r}")
        if name:
            names.append(name)
    if not names:
        raise InputError(f"{path}: expected a list of file names, one per line, found an empty file")
    return names
