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
AUTO_SHARE = 0.25  # of the memory, for cache="auto"
SPARE_SPACE = 0.25  # of shared memory: batches on their way from worker to trainer lie there too
SPARE_MEMORY = 0.1
IMPLAUSIBLE = 10**12  # bytes, from here on a slip of the unit
SETTLED_AFTER = 2.0  # seconds: a file changed twice within one tick of its clock would look the same
MAGIC = b"DINOMC01"
HEADER = struct.Struct("<8s3Q32x")  # magic, height, width, channels (0: none); 64 bytes keep the pixels aligned
CLEAN_UP_LAST = -10  # priority: after the worker processes have ended
OWN_NAME = re.compile(r"[0-9a-f]{64}(\.part)?")  # of an entry, whole or not; a user's folder may hold other files
PLAIN = (str, bytes, int, float, bool, type(None))  # arguments of a decoder that are the same in every process
USERS, WRITER = "users.lock", "writer.lock"

logger = logging.getLogger(__name__)
_held: dict[Path, int] = {}  # folder -> descriptor of its lock, which says that this process uses it
_made: dict[Path, int] = {}  # folder -> process that made a cache there; a fork inherits the entry, not the task


class DecodedCache:
    """Keeps what `decode(path)` gave, for this and all other processes of the user on this machine.

    Entries appear whole or not at all (written aside, then renamed), under a name made of the file's path, inode, size
    and times of change, so that a changed file is decoded again. Whoever cannot read or write an entry decodes: a
    sample is the same with and without. When the limit or the memory is reached, what is there stays and the rest is
    decoded each time.

    The folder lies in /dev/shm (in the folder for temporary files where there is none). The last process that made a
    cache removes it at its end, or where that was killed the last of its loading processes, which then end; what is
    left even so is removed by the next process that starts.

    Args:
        limit: bytes of all entries together, a number or text such as "4GB"; "auto" for a quarter of the memory; None
            or "off" keeps nothing. A quarter of the shared memory and a tenth of all memory always stay free, also a
            tenth of what a control group allows.
        folder: another place for the entries; it must be the user's own. Other files in it, and the folder, stay.

    Raises:
        InputError: a limit that is none of these.
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
        return {**self.__dict__, "opened": None}  # another process takes its own part in the lock

    def read(self, path: str | os.PathLike, decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Return `decode(path)`, an (H, W) or (H, W, C) uint8 array; it may be read-only.

        Entries of different decoders are kept apart by their names, those of a `functools.partial` also by its
        arguments. What a decoder without a name gives, or a partial one of other than plain values, is not kept.

        Raises:
            What `decode` raises.
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
        """Where the entry of a file as it is now belongs; None where it is not there or changed just now."""
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
        """Write an entry if there is room; while another process writes, leave it to a later sample."""
        size = HEADER.size + picture.nbytes
        try:
            with _sole_writer(self.folder) as alone:
                if not alone or entry.exists():
                    return
                used = _remove_unfinished_and_measure(self.folder)
                if used + size > self.limit or not has_room(self.folder, used, size):
                    self.storing = False
                    logger.info("%s: %.1f GB of decoded pictures kept, no room for more", self.folder, used / 1e9)
                    return
                _write_whole(entry, picture)
        except OSError as error:  # full, or gone: decoding goes on
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
    """The user's folder in shared memory, or among temporary files where the system has none."""
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    return base / f"dinomatte-{os.getuid()}"


def has_room(folder: Path, used: int, size: int) -> bool:
    """Whether `size` bytes more leave enough of the file system, of which entries hold `used`, and of the memory."""
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    if free - size < SPARE_SPACE * (free + used):
        return False
    return all(available - size >= SPARE_MEMORY * total for total, available in memories())


def close_caches() -> None:
    """Do now what this process would do at its end: for a process that ends by `os._exit`."""
    for folder, process in list(_made.items()):
        if process == os.getpid():
            remove_if_unused(folder)


def remove_if_unused(folder: Path) -> None:
    """Remove all entries, and the folder if it is not one that a user has named, unless another process uses them."""
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
    """At the end of a process that was given its cache: clean up for one that was killed and no longer can."""
    parent = multiprocessing.parent_process()
    # forked siblings keep each other's sign that the parent lives; under forkserver the system's parent is another
    if parent is not None and (os.getppid() != parent_id or not parent.is_alive()):
        remove_if_unused(folder)


def _take_part(folder: Path) -> None:
    """Say by a shared lock, held until the process ends, that this process uses the folder; its first user empties it.

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
            with contextlib.suppress(FileNotFoundError):  # removed before we had the lock: once more
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
    """Yield whether this is the only process that writes; a killed one's lock ends with it."""
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
    """Bytes of all entries, after removing what killed writers left: nobody else writes now."""
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
            os.fsync(file.fileno())  # before the name: where there is no shared memory it is a disk
        os.rename(unfinished, entry)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _decoder_name(decode: Callable) -> tuple[Any, ...] | None:
    """What tells one decoder from another, in all processes; None where nothing does."""
    if isinstance(decode, functools.partial):
        name, arguments = _decoder_name(decode.func), [*decode.args, *decode.keywords.values()]
        if name is None or not all(isinstance(value, PLAIN) for value in arguments):
            return None
        return *name, decode.args, tuple(sorted(decode.keywords.items()))
    name = getattr(decode, "__qualname__", None)
    return None if name is None else (decode.__module__, name)


def _load(entry: Path) -> np.ndarray | None:
    """The picture of an entry, read-only and without a copy; None where there is none."""
    try:
        with open(entry, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError: empty
        return None
    if len(mapped) < HEADER.size:
        return None
    magic, height, width, channels = HEADER.unpack_from(mapped)
    if magic != MAGIC or len(mapped) != HEADER.size + height * width * (channels or 1):
        return None
    shape = (height, width, channels) if channels else (height, width)
    return np.frombuffer(mapped, np.uint8, offset=HEADER.size).reshape(shape)
