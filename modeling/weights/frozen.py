"""Frozen weights of a run, which its checkpoints name by file and hash instead of storing them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modeling.weights.shipped import read_model_file
from runtime.errors import InputError
from runtime.files import hash_file

FROZEN_ENTRY = "frozen"  # key in a checkpoint


def frozen_entry(path: str | os.PathLike, keys: Iterable[str]) -> dict[str, Any]:
    """Entry of a checkpoint for the tensors `keys`, which are in the file that they were loaded from."""
    return {"file": os.fspath(path), "sha256": hash_file(path), "keys": list(keys)}


def found_entry(checkpoint: dict[str, Any], path: str | os.PathLike) -> dict[str, Any] | None:
    """Entry of a checkpoint from `path`, with the current path of its file; None if the checkpoint has no such entry.

    Raises:
        InputError: the file is neither at its recorded path nor beside the checkpoint, or the entry is damaged.
    """
    entry = checkpoint.get(FROZEN_ENTRY)
    if entry is None:
        return None
    keys = entry.get("keys") if isinstance(entry, dict) else None
    if not (isinstance(keys, list) and all(isinstance(text, str) for text in [entry.get("file"), *keys])):
        raise InputError(f"{path}: its entry {FROZEN_ENTRY!r} is not one that training writes")
    recorded = Path(entry["file"])
    candidates = [recorded, Path(path).parent / recorded.name]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise InputError(
            f"{path}: its frozen weights are those of {recorded}, which does not exist; put that file into the "
            "folder of the checkpoint"
        )
    return {**entry, "file": os.fspath(found)}


def with_frozen_weights(checkpoint: dict[str, Any], path: str | os.PathLike) -> dict[str, Any]:
    """The checkpoint with the tensors that it names by file and hash; unchanged if it names none.

    The file is searched for at its recorded path, then beside the checkpoint.

    Raises:
        InputError: the file is not found, or is not the one that the run used.
    """
    entry = found_entry(checkpoint, path)
    if entry is None:
        return checkpoint
    found = entry["file"]
    if hash_file(found) != entry.get("sha256"):
        raise InputError(f"{path}: its frozen weights are not those of {found}; use the file of the run")
    source = read_model_file(found)["model"]
    missing = [key for key in entry["keys"] if key not in source]
    if missing:
        raise InputError(f"{path}: {found} lacks its frozen tensor {missing[0]}")
    return {**checkpoint, "model": {**{key: source[key] for key in entry["keys"]}, **checkpoint["model"]}}
