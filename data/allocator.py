"""Make the C library keep what is freed, for the next array or tensor of a size."""

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEEP = 2**30  # bytes; what tensors of one prediction take


def keep_freed_memory(largest: int = KEEP, free: int = KEEP) -> bool:
    """Let tensors of any usual size reuse freed memory instead of asking the system for new pages each time.

    glibc returns blocks of more than 32 MiB to the system when they are freed, and every page of a new one costs a
    fault at its first touch; with an image of 1024 x 1024 that is a tenth of a prediction, and without a word to the
    library a fifth of a training sample. It concerns the whole process and cannot be undone.

    Args:
        largest: bytes; larger blocks still go back.
        free: bytes at the heap's end that are kept.

    Returns:
        whether the C library could be told; others than glibc are left as they are.
    """
    mallopt = _c_function("mallopt")
    options = {M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: free}
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())


def return_freed_memory() -> None:
    """Give back to the system what is kept: tensors of another size would leave gaps in it, and take more beside."""
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _c_function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
