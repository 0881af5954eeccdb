"""How much memory there is, and how users write amounts of it."""

import math

import torch

from data.errors import InputError
from data.system_memory import amount_of, available_memory

SHARE_OF_FREE = 0.8  # of what is free now; other programs live on the rest


def parse_bytes(text: str) -> int:
    """Read "6GB", "512 MiB" or a number of bytes.

    Raises:
        InputError: anything else, or nothing left to work in.
    """
    amount = amount_of(text)
    if amount is None or not 2**20 <= amount < 2**63:
        raise InputError(f"--max-memory: expected an amount such as 6GB or 900MiB, got {text!r}")
    return amount


def amount_text(nbytes: int) -> str:
    """Write an amount as parse_bytes reads it, rounded up: 180MiB, 3.2GiB."""
    mebibytes = -(-nbytes // 2**20)
    return f"{mebibytes}MiB" if mebibytes < 2**10 else f"{math.ceil(mebibytes / 2**10 * 10) / 10:g}GiB"


def free_bytes(device: torch.device) -> int:
    """What may be allocated on the device now, with a reserve for others.

    On a CPU that is what the system calls available, or what a control group leaves of its limit if that is less
    (a container's limit is not seen in the system's own figure).
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE_OF_FREE * (free + reusable))
    if device.type == "mps":
        return int(SHARE_OF_FREE * (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    return int(SHARE_OF_FREE * available_memory())
