"""How much memory a process has held at most."""

import sys
from pathlib import Path

import torch

GIB = 2**30


def peak_resident_gib() -> float | None:
    """The highest resident memory of this process so far, GiB; None where the system does not tell.

    On Linux not by getrusage: its peak of a started process begins with that of the process which started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / GIB
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def peak_gpu_gib() -> float | None:
    """The most that tensors have held of this process's GPU so far, GiB; None without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / GIB
