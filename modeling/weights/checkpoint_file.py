"""Checkpoint files: `{"model": state_dict, "metadata": {...}, ...}`, read without unpickling and written atomically.

A file with a changed byte is refused.
"""

import contextlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from runtime.errors import InputError
from runtime.files import replacing
from runtime.text import one_line

CONFIG_ENTRY = "config"  # key of the description of the network, see modeling.weights.model_config


class DamagedCheckpointError(InputError):
    """A checkpoint file that is missing, truncated or changed. An earlier checkpoint may be used instead."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file onto the CPU with `weights_only=True`, and check every byte of its tensors.

    Raises:
        DamagedCheckpointError: missing, truncated, changed by a bit, or not written by torch.save.
        InputError: no "model" entry with tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DamagedCheckpointError(f"{path}: expected a checkpoint, found no such file")
    try:
        _check_sums(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # for bad bytes zipfile and torch raise RuntimeError, KeyError, struct.error, ...
        reason = one_line(error).split(". ")[0][:160]
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (damaged, truncated, or not made by torch.save): {reason}"
        ) from error
    model = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if (
        not isinstance(model, dict)
        or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in model.items())
        or not isinstance(checkpoint.get("metadata", {}), dict)
    ):
        raise InputError(
            f"{path}: expected {{'model': tensors, ...}} as main.py and preprocess.py write it; "
            "convert pretrained weights with preprocess.py first"
        )
    return checkpoint


def _check_sums(path: Path) -> None:
    """Compare every record with its CRC-32. torch.save writes the CRC-32, but torch.load does not check it."""
    if not zipfile.is_zipfile(path):
        return  # torch.load reports what the file is; before version 1.6, checkpoints were not archives and had no sums
    with zipfile.ZipFile(path) as archive:
        record = archive.testzip()
    if record is not None:
        raise zipfile.BadZipFile(f"{record} is not as it was written")


def read_extra(path: str | Path, key: str) -> Any:
    """One entry of a checkpoint other than tensors, without reading tensors; None if it or the file is missing."""
    with contextlib.suppress(Exception):  # for bad bytes torch raises errors of many kinds
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(key)
    return None


def write_checkpoint(path: str | os.PathLike, data: dict[str, Any]) -> None:
    """Save `data` (tensors and plain types) with torch.save at `path`. If this fails, an existing file is unchanged.

    When the function returns, the file survives a power failure.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with replacing(path, durable=True) as temporary:
        try:
            with open(temporary, "wb") as file:  # given a path, torch would store the temporary name inside
                torch.save(data, file)
        except RuntimeError as error:  # torch's writer raises this for a full disk
            free = shutil.disk_usage(temporary.parent).free
            raise InputError(
                f"{path}: cannot write, the disk has {free:,} bytes left: {str(error).splitlines()[0]}"
            ) from error
