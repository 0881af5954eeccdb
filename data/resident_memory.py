"""How much memory this process holds and has held."""

import sys
from pathlib import Path

GIB = 2**30
STATUS = Path("/proc/self/status")


def peak_gib() -> float | None:
    """The highest resident memory of this process so far, GiB; None where the system does not tell.

    On Linux not by getrusage: its peak of a started process begins with that of the process which started it.
    """
    if STATUS.exists():
        return _field("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def resident_gib() -> float:
    """The process's resident memory now, GiB (Linux)."""
    return _field("VmRSS")


def _field(name: str) -> float:
    return int(STATUS.read_text().split(f"{name}:")[1].split()[0]) * 1024 / GIB
