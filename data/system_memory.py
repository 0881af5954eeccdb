"""How much main memory this process may use, and how users write amounts of it.

The machine's, and what its control groups leave of their limits.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
UNKNOWN = 8 * 2**30  # bytes, where the system does not say (Windows)
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
UNLIMITED = 2**62  # from here on: version 1 writes the largest number of pages instead of "max"


class Memory(NamedTuple):
    """Bytes of the machine, or of a control group: all, and what can be had now without swapping."""

    total: int
    available: int


class _Names(NamedTuple):
    """A kind of control group: how it is listed and what its files are called (kernel documentation, cgroup-v1/-v2)."""

    file_system: str
    limit: str
    used: str
    cache: str  # in memory.stat: files that were read before, given back when memory is short


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
    """Bytes this process may use at most: the machine's, or the smallest limit of its control groups."""
    return min(memory.total for memory in memories())


def available_memory() -> int:
    """Bytes this process can still have without swapping, in the machine and in all its control groups."""
    return min(memory.available for memory in memories())


def memories() -> list[Memory]:
    """The machine's memory, then that of each control group with a limit: the process's own and those around it."""
    return [_of_machine(), *_of_control_groups()]


def _of_machine() -> Memory:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = UNKNOWN
    available = re.search(r"MemAvailable:\s+(\d+)", _text(PROC / "meminfo"))
    return Memory(total, int(available[1]) * 1024 if available else total // 2)


def _of_control_groups() -> Iterator[Memory]:
    for names, mount_point, root in _mounts():
        group = _group_of_this_process(names)
        # Outside the part of the tree that is mounted (a container's usual view) the mount itself is the group.
        inside = group.relative_to(root) if group is not None and group.is_relative_to(root) else Path()
        for folder in (mount_point / inside, *(mount_point / parent for parent in inside.parents)):
            memory = _of_group(folder, names)
            if memory is not None:
                yield memory


def _mounts() -> Iterator[tuple[_Names, Path, Path]]:
    """Each tree of control groups that counts memory: its kind, where it is mounted, and which part of it (proc(5))."""
    for line in _text(PROC / "self/mountinfo").splitlines():
        mount, _, source = line.partition(" - ")
        fields, (file_system, *_, options) = mount.split(), source.split() or ["", ""]
        for names in VERSIONS:
            if file_system == names.file_system and (names is VERSIONS[0] or "memory" in options.split(",")):
                yield names, Path(_unescaped(fields[4])), Path(_unescaped(fields[3]))


def _group_of_this_process(names: _Names) -> Path | None:
    """The group's path from the root of its tree; None where it lies outside of what a namespace shows."""
    for line in _text(PROC / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" if names is VERSIONS[0] else "memory" in controllers.split(","):
            return None if ".." in Path(path).parts else Path(path)
    return None


def _of_group(folder: Path, names: _Names) -> Memory | None:
    """What the group of `folder` allows; None where it has no limit, or is not there."""
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
