"""How much memory this process holds, for the benchmarks (Linux).

Not getrusage: its peak of a started process begins with that of the process which started it.
"""

from pathlib import Path


def peak_gib() -> float:
    """The process's highest resident memory so far."""
    return _field("VmHWM")


def resident_gib() -> float:
    """The process's resident memory now."""
    return _field("VmRSS")


def _field(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 2**20  # from KiB
