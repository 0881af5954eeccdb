"""Checks of output folders: they may not contain files of another set."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from runtime.errors import InputError


def empty_or_own(folder: str | Path, expected: Mapping[str, Collection[str]]) -> dict[str, Path]:
    """Sub-folders by name. Their existing files must be files that the caller will write.

    Args:
        folder: parent of the sub-folders; neither has to exist.
        expected: names of the files to write, for each sub-folder.

    Raises:
        InputError: a sub-folder is a file or contains other files; hidden files are ignored.
    """
    paths = {name: Path(folder) / name for name in expected}
    for name, path in paths.items():
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: expected a folder or nothing, found a file; choose another output folder")
        own = set(expected[name])
        foreign = sorted(found.name for found in path.glob("*") if found.name not in own and found.name[0] != ".")
        if foreign:
            raise InputError(
                f"{path}: already contains {len(foreign)} files of another set, such as {foreign[0]}; choose an empty "
                "output folder"
            )
    return paths


def require_outside(output: str | Path, folder: str | Path) -> None:
    """Refuse an output inside a folder of inputs, where the next run would read it as an input.

    Raises:
        InputError: `output` is `folder` or in it.
    """
    inside, outer = Path(os.path.realpath(output)), Path(os.path.realpath(folder))
    if outer == inside or outer in inside.parents:
        raise InputError(
            f"{output}: is inside {folder}, whose sub-folders are read too; name a folder outside it for the results"
        )
