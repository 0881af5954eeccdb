"""Folders that a program fills: nothing of another set may lie in them."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from runtime.errors import InputError


def empty_or_own(folder: str | Path, expected: Mapping[str, Collection[str]]) -> dict[str, Path]:
    """Return subfolders by name; what lies in them must be files the caller would write itself.

    Args:
        folder: what they lie in; neither it nor they need exist.
        expected: the names of the files to be written, for each subfolder.

    Raises:
        InputError: a subfolder is a file or holds other files; hidden ones do not count.
    """
    paths = {name: Path(folder) / name for name in expected}
    for name, path in paths.items():
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: expected a folder or nothing, found a file; choose another output folder")
        own = set(expected[name])
        foreign = sorted(found.name for found in path.glob("*") if found.name not in own and found.name[0] != ".")
        if foreign:
            raise InputError(
                f"{path}: already holds {len(foreign)} files of another set, {foreign[0]} first; choose an empty "
                "output folder"
            )
    return paths


def require_outside(output: str | Path, folder: str | Path) -> None:
    """Refuse results within a folder of inputs, where the next run would read them as inputs.

    Raises:
        InputError: `output` is `folder` or in it.
    """
    inside, outer = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if outer == inside or outer in inside.parents:
        raise InputError(
            f"{output}: lies in {folder}, whose sub-folders are read too; name a folder outside it for the results"
        )
