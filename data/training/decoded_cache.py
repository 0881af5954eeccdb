"""Decoded pictures in shared memory, one copy for all loading processes of a machine."""

import contextlib
import fcntl
import functools
import hashlib
import logging
import mmap
import multiprocessing
import multiprocessing.util
import os
import re
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from runtime.errors import InputError
from runtime.memory import amount_of, memories, total_memory

SHARED_MEMORY = Path("/dev/shm")
AUTO_SHARE = 0.25  # share of the memory for cache="auto"
SPARE_SPACE = 0.25  # share of shared memory that stays free, as batches pass through it from worker to trainer
SPARE_MEMORY = 0.1
IMPLAUSIBLE = 10**12  # bytes, above which the unit is probably a mistake
SETTLED_AFTER = 2.0  # seconds; two changes of a file within one tick of its clock could not be distinguished
MAGIC = b"DINOMC01"
HEADER = struct.Struct("<8s3Q32x")  # magic, height, width, channels (0: none); 64 bytes keep the pixels aligned
CLEAN_UP_LAST = -10  # priority after the end of the worker processes
OWN_NAME = re.compile(r"[0-9a-f]{64}(\.part)?")  # of an entry, complete or not; a user's folder may have other files
PLAIN = (str, bytes, int, float, bool, type(None))  # arguments of a decoder that are the same in every process
USERS, WRITER = "users.lock", "writer.lock"

logger = logging.getLogger(__name__)
_held: dict[Path, int] = {}  # folder -> descriptor of the lock that marks its use by this process
_made: dict[Path, int] = {}  # folder -> process that made a cache there; a fork inherits the entry but not the clean-up


class DecodedCache:
    """Cache of the results of `decode(path)` for all processes of the user on this machine.

    Entries are written under a temporary name and renamed. Their names are derived from the path, inode, size and
    modification times of the file, so a changed file is decoded again. A process that cannot read or write an entry
    decodes the file, so samples do not depend on the cache. When the limit or the memory is reached, the existing
    entries stay and other files are decoded each time.

    The folder is in /dev/shm (in the folder for temporary files if there is none). The last process that made a cache
    removes it at its end. If that process was killed, its last loading process does so when it ends. Remaining folders
    are removed by the next process that starts.

    Args:
        limit: bytes of all entries together, as a number or text such as "4GB"; "auto" for a quarter of the memory;
            None or "off" for no cache. A quarter of the shared memory, a tenth of all memory and a tenth of the limit
            of a control group always stay free.
        folder: another folder for the entries, which must be the user's own. It and other files in it are not removed.

    Raises:
        InputError: an invalid limit.
    """

    def __init__(self, limit: str | int | None = "auto", folder: str | os.PathLike | None = None):
        self.limit = parse_limit(limit)
        self.folder = Path(folder) if folder is not None else default_folder()
        self.storing = self.limit > 0
        self.opened: bool | None = None
        if self.limit:
            _made[self.folder] = os.getpid()
            multiprocessing.util.Finalize(None, remove_if_unused, (self.folder,), exitpriority=CLEAN_UP_LAST)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "opened": None}  # another process takes the lock itself

    def read(self, path: str | os.PathLike, decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Return `decode(path)`, an (H, W) or (H, W, C) uint8 array; it may be read-only.

        Entries of different decoders are distinguished by their names, and for a `functools.partial` also by its
        arguments. Results of a decoder without a name, or of a partial with other than plain values, are not kept.

        Raises:
            Errors of `decode`.
        """
        entry = self._entry(path, decode) if self._open() else None
        if entry is None:
            return decode(path)
        kept = _load(entry)
        if kept is not None:
            return kept
        decoded = decode(path)
        if self.storing and decoded.dtype == np.uint8 and self._entry(path, decode) == entry:  # not changed meanwhile
            self._store(entry, decoded)
        return decoded

    def _open(self) -> bool:
        if self.limit and self.opened is None:
            try:
                _take_part(self.folder)
                self.opened = True
            except OSError as error:
                logger.warning("decoded pictures are not kept: %s: %s", self.folder, error.strerror or error)
                self.opened = False
        return bool(self.opened)

    def _entry(self, path: str | os.PathLike, decode: Callable) -> Path | None:
        """Path for the entry of the current version of a file; None if the file does not exist or changed just now."""
        decoder = _decoder_name(decode)
        if decoder is None:
            return None
        try:
            found = os.stat(path)
        except OSError:
            return None
        if time.time() - found.st_ctime < SETTLED_AFTER:
            return None
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        key = (os.path.abspath(path), *identity, *decoder, PIL.__version__)
        return self.folder / hashlib.sha256(repr(key).encode("utf-8", "surrogateescape")).hexdigest()

    def _store(self, entry: Path, picture: np.ndarray) -> None:
        """Write an entry if there is space. While another process writes, a later sample does it."""
        size = HEADER.size + picture.nbytes
        try:
            with _sole_writer(self.folder) as alone:
                if not alone or entry.exists():
                    return
                used = _remove_unfinished_and_measure(self.folder)
                if used + size > self.limit or not has_room(self.folder, used, size):
                    self.storing = False
                    logger.info("%s: %.1f GB of decoded pictures kept; no space for more", self.folder, used / 1e9)
                    return
                _write_whole(entry, picture)
        except OSError as error:  # full or removed; files are then decoded
            self.storing = False
            logger.warning("decoded pictures are not kept any more: %s: %s", self.folder, error.strerror or error)


def parse_limit(limit: str | int | None) -> int:
    """Bytes of a setting: a number, "4GB", "512MiB", "auto", "off" or None.

    Raises:
        InputError: anything else.
    """
    if limit is None or limit == "off":
        return 0
    if limit == "auto":
        return int(AUTO_SHARE * total_memory())
    amount = amount_of(str(limit))
    if amount is None or amount >= IMPLAUSIBLE:
        raise InputError(f'cache: expected a size such as "4GB", "auto", "off" or none, got {limit!r}')
    return amount


def default_folder() -> Path:
    """The user's folder in shared memory, or among temporary files if the system has no shared memory."""
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    return base / f"dinomatte-{os.getuid()}"


def has_room(folder: Path, used: int, size: int) -> bool:
    """Whether enough of the memory and of the file system, of which entries use `used`, remains after `size` bytes."""
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    if free - size < SPARE_SPACE * (free + used):
        return False
    return all(available - size >= SPARE_MEMORY * total for total, available in memories())


def close_caches() -> None:
    """Clean up as at the end of this process, for a process that ends by `os._exit`."""
    for folder, process in list(_made.items()):
        if process == os.getpid():
            remove_if_unused(folder)


def remove_if_unused(folder: Path) -> None:
    """Remove all entries, and the folder unless a user has set it, if no other process uses them."""
    if folder in _held:
        os.close(_held.pop(folder))
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / USERS, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
            os.unlink(folder / USERS)
            if folder == default_folder():
                folder.rmdir()
        finally:
            os.close(descriptor)


def _remove_if_orphaned(folder: Path, parent_id: int) -> None:
    """Clean up at the end of a process that inherited its cache, if the parent was killed and could not."""
    parent = multiprocessing.parent_process()
    # Forked siblings keep the sign that the parent lives; under forkserver the system's parent is another process.
    if parent is not None and (os.getppid() != parent_id or not parent.is_alive()):
        remove_if_unused(folder)


def _take_part(folder: Path) -> None:
    """Mark the use of the folder by a shared lock, held until the process ends. The first user empties the folder.

    Raises:
        OSError: the folder cannot be made, or is not the user's own.
    """
    while folder not in _held:
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_own(folder)
        descriptor = os.open(folder / USERS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _empty(folder)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):  # removed before the lock was acquired; try again
                if os.path.samestat(os.fstat(descriptor), os.stat(folder / USERS)):
                    _held[folder] = descriptor
                    arguments = (folder, os.getppid())
                    multiprocessing.util.Finalize(None, _remove_if_orphaned, arguments, exitpriority=CLEAN_UP_LAST)
        finally:
            if _held.get(folder) != descriptor:
                os.close(descriptor)


def _require_own(folder: Path) -> None:
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(None, "expected a folder that only you can write to")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if OWN_NAME.fullmatch(path.name) or path.name == WRITER:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _sole_writer(folder: Path) -> Iterator[bool]:
    """Yield whether this is the only writing process. The lock of a killed process is released."""
    descriptor = os.open(folder / WRITER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_unfinished_and_measure(folder: Path) -> int:
    """Remove what killed writers left, while no other process writes, and return the bytes of all entries."""
    used = 0
    with os.scandir(folder) as listed:
        for found in listed:
            if not OWN_NAME.fullmatch(found.name):
                continue
            if found.name.endswith(".part"):
                os.unlink(found)
            else:
                used += found.stat().st_size
    return used


def _write_whole(entry: Path, picture: np.ndarray) -> None:
    unfinished = entry.with_suffix(".part")
    height, width, channels = (*picture.shape, 0)[:3]
    try:
        with open(unfinished, "xb") as file:
            file.write(HEADER.pack(MAGIC, height, width, channels))
            file.write(np.ascontiguousarray(picture).data)
            file.flush()
            os.fsync(file.fileno())  # before renaming, because without shared memory the file is on a disk
        os.rename(unfinished, entry)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _decoder_name(decode: Callable) -> tuple[Any, ...] | None:
    """Identity of a decoder that is the same in all processes; None if there is none."""
    if isinstance(decode, functools.partial):
        name, arguments = _decoder_name(decode.func), [*decode.args, *decode.keywords.values()]
        if name is None or not all(isinstance(value, PLAIN) for value in arguments):
            return None
        return *name, decode.args, tuple(sorted(decode.keywords.items()))
    name = getattr(decode, "__qualname__", None)
    return None if name is None else (decode.__module__, name)


def _load(entry: Path) -> np.ndarray | None:
    """Picture of an entry, read-only and without a copy; None if there is no entry."""
    try:
        with open(entry, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError for an empty file
        return None
    if len(mapped) < HEADER.size:
        return None
    magic, height, width, channels = HEADER.unpack_from(mapped)
    if magic != MAGIC or len(mapped) != HEADER.size + height * width * (channels or 1):
        return None
    shape = (height, width, channels) if channels else (height, width)
    return np.frombuffer(mapped, np.uint8, offset=HEADER.size).reshape(shape)
