"""Memory: the amount that this process may use and holds, and parsing of amounts.

The usable amount is limited by the machine's memory and by the control groups. Importing this module does not need
torch; functions that query a GPU import it.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.errors import InputError

if TYPE_CHECKING:
    import torch

PROC = Path("/proc")
UNKNOWN_TOTAL = 8 * 2**30  # bytes, if the system does not report them
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
UNLIMITED = 2**62  # version 1 writes the largest number of pages instead of "max"
SHARE_OF_FREE = 0.8  # of the free memory; the rest is for other programs
GIB = 2**30
STATUS = Path("/proc/self/status")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEEP = 2**30  # bytes of the tensors of one prediction


class Memory(NamedTuple):
    """Bytes of the machine or of a control group: the total, and the amount available without swapping."""

    total: int
    available: int


class _Names(NamedTuple):
    """Names of the entries and files of one kind of control group (kernel documentation, cgroup-v1/-v2)."""

    file_system: str
    limit: str
    used: str
    cache: str  # field of memory.stat for cached files, whose memory is released on demand


VERSIONS = (
    _Names("cgroup2", "memory.max", "memory.current", "inactive_file"),
    _Names("cgroup", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def amount_of(text: str) -> int | None:
    """Bytes of "6GB", "512 MiB", "1.5g" or a plain number; None for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]I?)?B?\s*", text, re.IGNORECASE)
    amount = float(match[1]) * UNITS[(match[2] or "").upper()] if match else math.inf
    return int(amount) if math.isfinite(amount) else None


def total_memory() -> int:
    """Largest number of bytes that this process may use: the machine's memory or the smallest control group limit."""
    return min(memory.total for memory in memories())


def available_memory() -> int:
    """Bytes that are still available to this process without swapping, in the machine and in all its control groups."""
    return min(memory.available for memory in memories())


def memories() -> list[Memory]:
    """Memory of the machine, then of each control group with a limit that contains the process."""
    return [_of_machine(), *_of_control_groups()]


def _of_machine() -> Memory:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        total = UNKNOWN_TOTAL
    available = re.search(r"MemAvailable:\s+(\d+)", _text(PROC / "meminfo"))
    return Memory(total, int(available[1]) * 1024 if available else total // 2)


def _of_control_groups() -> Iterator[Memory]:
    for names, mount_point, root in _mounts():
        group = _group_of_this_process(names)
        # Outside the mounted part of the tree (usual in a container), the mount itself is the group.
        inside = group.relative_to(root) if group is not None and group.is_relative_to(root) else Path()
        for folder in (mount_point / inside, *(mount_point / parent for parent in inside.parents)):
            memory = _of_group(folder, names)
            if memory is not None:
                yield memory


def _mounts() -> Iterator[tuple[_Names, Path, Path]]:
    """Trees of control groups that account memory: kind, mount point, and the mounted part of the tree (proc(5))."""
    for line in _text(PROC / "self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        fields, (file_system, *_, options) = mount.split(), source.split() or ["", ""]
        for names in VERSIONS:
            if file_system == names.file_system and (names is VERSIONS[0] or "memory" in options.split(",")):
                yield names, Path(_unescaped(fields[4])), Path(_unescaped(fields[3]))


def _group_of_this_process(names: _Names) -> Path | None:
    """Path of the group from the root of its tree; None if it is outside the part that a namespace shows."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" if names is VERSIONS[0] else "memory" in controllers.split(","):
            return None if ".." in Path(path).parts else Path(path)
    return None


def _of_group(folder: Path, names: _Names) -> Memory | None:
    """Memory of the group of `folder`; None if it has no limit or does not exist."""
    limit, used = _text(folder / names.limit).strip(), _text(folder / names.used).strip()
    if not (limit.isdigit() and used.isdigit()) or int(limit) >= UNLIMITED:
        return None
    reclaimable = re.search(rf"^{names.cache} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    left = int(limit) - int(used) + (int(reclaimable[1]) if reclaimable else 0)
    return Memory(int(limit), min(max(left, 0), int(limit)))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def parse_bytes(text: str) -> int:
    """Read "6GB", "512 MiB" or a number of bytes.

    Raises:
        InputError: any other text, or an amount of zero.
    """
    amount = amount_of(text)
    if amount is None or not 2**20 <= amount < 2**63:
        raise InputError(f"--max-memory: expected an amount such as 6GB or 900MiB, got {text!r}")
    return amount


def amount_text(nbytes: int) -> str:
    """An amount in the form that parse_bytes reads, rounded up: 180MiB, 3.2GiB."""
    mebibytes = -(-nbytes // 2**20)
    return f"{mebibytes}MiB" if mebibytes < 2**10 else f"{math.ceil(mebibytes / 2**10 * 10) / 10:g}GiB"


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on the device now, with a reserve for other programs.

    On a CPU this is the available memory of the system or, if it is less, the remaining limit of a control group, such
    as that of a container, which the system's figure does not include.
    """
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE_OF_FREE * (free + reusable))
    if device.type == "mps":
        return int(SHARE_OF_FREE * (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    return int(SHARE_OF_FREE * available_memory())


def peak_gib() -> float:
    """Peak resident memory of this process in GiB.

    On Linux getrusage is not used, because its peak starts from that of the parent process.
    """
    if STATUS.exists():
        return _field("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def resident_gib() -> float | None:
    """Current resident memory of the process in GiB; None on systems other than Linux."""
    return _field("VmRSS") if STATUS.exists() else None


def _field(name: str) -> float:
    return int(STATUS.read_text().split(f"{name}:")[1].split()[0]) * 1024 / GIB


def peak_gpu_gib() -> float | None:
    """Peak memory of tensors on this process's GPU in GiB; None without a GPU."""
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / GIB


def gpu_gib() -> float | None:
    """Current memory of tensors on this process's GPU in GiB; None without a GPU."""
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.memory_allocated() / GIB


def keep_freed_memory(largest: int = KEEP, free: int = KEEP) -> bool:
    """Let tensors of usual sizes reuse freed memory instead of requesting new pages from the system each time.

    glibc returns freed blocks of more than 32 MiB to the system, and every page of a new block costs a page fault at
    its first use. This is a tenth of the time of a prediction at 1024 x 1024, and a fifth of that of a training sample.
    The setting applies to the whole process and cannot be undone.

    Args:
        largest: size in bytes above which blocks are still returned.
        free: bytes that are kept at the end of the heap.

    Returns:
        Whether the C library accepted the setting; only glibc has it.
    """
    mallopt = _c_function("mallopt")
    options = {M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: free}
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in options.items())


def return_freed_memory() -> None:
    """Return the kept memory to the system, because tensors of another size would leave gaps in it and need more."""
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _c_function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
