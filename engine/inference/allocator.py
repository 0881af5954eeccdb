"""Make the C library keep what is freed, for the next tensor of a size."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEEP = 2**30  # bytes; what tensors of one prediction take


def keep_freed_memory() -> bool:
    """Let tensors of any usual size reuse freed memory instead of asking the system for new pages each time.

    glibc returns blocks of more than 32 MiB to the system when they are freed, and every page of a new one costs a
    fault at its first touch; with an image of 1024 x 1024 that is a tenth of the time. For programs that predict: it
    concerns the whole process and cannot be undone. Blocks of more than 1 GiB still go back.

    Returns:
        whether the C library could be told; others than glibc are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(option, KEEP) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))
