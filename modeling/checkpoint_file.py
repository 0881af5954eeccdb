"""Writing checkpoint files, whole or not at all."""

import os
import shutil
from typing import Any

import torch

from data.errors import InputError
from data.files import replacing


def write_checkpoint(path: str | os.PathLike, data: dict[str, Any]) -> None:
    """Save `data` (tensors and plain types) with torch.save under `path`; on failure what was there stays.

    On return it would outlast a power loss.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    with replacing(path, durable=True) as temporary:
        try:
            with open(temporary, "wb") as file:  # by name, torch would store the temporary name inside
                torch.save(data, file)
        except RuntimeError as error:  # how torch's writer reports a full disk
            free = shutil.disk_usage(temporary.parent).free
            raise InputError(
                f"{path}: cannot write, the disk has {free:,} bytes left: {str(error).splitlines()[0]}"
            ) from error
