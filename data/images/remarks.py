"""Remarks on files that were read in an unusual way, counted by kind, so that thousands of files share one line."""

from collections.abc import Iterable
from typing import NamedTuple

from runtime.text import printable


class Remark(NamedTuple):
    """Remark on the reading of one file.

    Attributes:
        what: role of the file in a set, such as "trimap" or "alpha".
        text: description of the reading, the same for all files of a kind.
        path: path of the file.
    """

    what: str
    text: str
    path: str


def counted(remarks: Iterable[Remark]) -> list[str]:
    """One line for each kind of remark, in the order of the first remarks.

    Example:
        >>> counted([Remark("trimap", "read from the alpha channel", f"{name}.png") for name in "ab"])
        ['2 trimaps: read from the alpha channel (the first is a.png)']
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for what, text, path in remarks:
        kinds.setdefault((what, text), []).append(path)
    return [
        f"{len(paths)} {what}{'s' if len(paths) > 1 else ''}: {text} "
        f"({'the first is ' if len(paths) > 1 else ''}{printable(paths[0])})"
        for (what, text), paths in kinds.items()
    ]
