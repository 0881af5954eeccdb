"""Decoded pictures as .npy files, mapped into memory: the system's page cache shares them among all processes."""

import contextlib
import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from runtime.errors import InputError
from runtime.files import replacing
from runtime.memory import amount_of, total_memory

FOLDER_VARIABLE = "DINOMATTE_CACHE"
AUTO_SHARE = 0.25  # of the memory, for cache="auto": what exceeds the page cache is read from the disk each time
SPARE_SPACE = 0.1  # of the file system
IMPLAUSIBLE = 10**12  # bytes, from here on a slip of the unit
SETTLED_AFTER = 2.0  # seconds: a file changed twice within one tick of its clock would look the same
HEADER = 128  # bytes of a .npy file before its values
ABANDONED_AFTER = 3600  # seconds without a change of an entry that is being written
OWN_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.npy|\..*\.part")  # of an entry, whole or not
PLAIN = (str, bytes, int, float, bool, type(None))  # arguments of a decoder that are the same in every process

logger = logging.getLogger(__name__)


class DecodedCache:
    """Keeps on disk what `decode(path)` gave, for all processes and later runs of the user on this machine.

    Entries are written to another name and renamed. Their names are made of the file's path and decoder, and of its
    inode, size and times of change: a changed file is decoded again, and the entry of its older state is removed.
    Where an entry cannot be read or written, the file is decoded: a sample is the same with and without. When the limit
    is reached, or a tenth of the file system is left, what is there stays and the rest is decoded each time.

    Args:
        limit: bytes of all entries together, a number or text such as "4GB"; "auto" for a quarter of the memory; None
            or "off" keeps nothing.
        folder: the place for the entries; it must be the user's own. By default the environment variable
            DINOMATTE_CACHE, or a folder among temporary files. Other files in it stay.

    Raises:
        InputError: an invalid limit.
    """

    def __init__(self, limit: str | int | None = "auto", folder: str | os.PathLike | None = None):
        self.limit = parse_limit(limit)
        self.folder = Path(folder) if folder is not None else default_folder()
        self.storing = self.limit > 0
        self._is_own: bool | None = None

    def read(self, path: str | os.PathLike, decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Return `decode(path)`, an (H, W) or (H, W, C) uint8 array; it may be read-only.

        Entries of different decoders are distinguished by their names, and for a `functools.partial` also by its
        arguments. Results of a decoder without a name, or of a partial with other than plain values, are not kept.

        Raises:
            Errors of `decode`.
        """
        entry = self._entry(path, decode) if self._usable() else None
        if entry is None:
            return decode(path)
        try:
            return np.load(entry, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):  # not there; damaged
            decoded = decode(path)
        if self.storing and decoded.dtype == np.uint8 and self._entry(path, decode) == entry:  # not changed meanwhile
            self._store(entry, decoded)
        return decoded

    def _usable(self) -> bool:
        """Whether the folder is there, or can be made, and nobody else can put pictures into it."""
        if self.limit and self._is_own is None:
            try:
                _make_own(self.folder)
            except OSError as error:
                self._is_own = self._stop(error)
            else:
                self._is_own = True
        return bool(self._is_own)

    def _stop(self, error: Exception) -> bool:
        logger.warning("decoded pictures are not kept: %s: %s", self.folder, getattr(error, "strerror", None) or error)
        self.storing = False
        return False

    def _entry(self, path: str | os.PathLike, decode: Callable) -> Path | None:
        """The entry of a file as it is now; None where the file is missing or was changed just now."""
        decoder = _decoder_name(decode)
        if decoder is None:
            return None
        try:
            found = os.stat(path)
        except OSError:
            return None
        if time.time() - found.st_ctime < SETTLED_AFTER:
            return None
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, PIL.__version__)
        return self.folder / f"{_digest((os.path.abspath(path), *decoder))}-{_digest(state)}.npy"

    def _store(self, entry: Path, picture: np.ndarray) -> None:
        try:
            for older in self.folder.glob(f"{entry.name.partition('-')[0]}-*.npy"):
                if older != entry:
                    older.unlink(missing_ok=True)
            size = picture.nbytes + HEADER
            used = sum(found.stat().st_size for found in self.folder.iterdir() if OWN_NAME.fullmatch(found.name))
            space = shutil.disk_usage(self.folder)
            if used + size > self.limit or space.free - size < SPARE_SPACE * space.total:
                self.storing = False
                logger.warning(
                    "%s: %.1f GB of decoded pictures kept, no room for more; delete it if they are of other data",
                    self.folder,
                    used / 1e9,
                )
                return
            with replacing(entry) as temporary, open(temporary, "wb") as opened:
                np.save(opened, np.ascontiguousarray(picture))
        except FileNotFoundError:  # removed by another process meanwhile: a later sample stores it
            pass
        except (OSError, InputError) as error:  # full: decoding goes on
            self._stop(error)


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
    """The folder that DINOMATTE_CACHE names, else the user's own among temporary files."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"dinomatte-{os.getuid()}"


def _make_own(folder: Path) -> None:
    """Make the folder, and remove what writers that were killed long ago have left in it.

    Raises:
        OSError: it cannot be made, or is not the user's own.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError("expected a folder that only you can write to")
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                path.unlink()


def _decoder_name(decode: Callable) -> tuple[Any, ...] | None:
    """A name that differs between decoders and is the same in all processes; None where there is none."""
    if isinstance(decode, functools.partial):
        name, arguments = _decoder_name(decode.func), [*decode.args, *decode.keywords.values()]
        if name is None or not all(isinstance(value, PLAIN) for value in arguments):
            return None
        return *name, decode.args, tuple(sorted(decode.keywords.items()))
    name = getattr(decode, "__qualname__", None)
    return None if name is None else (decode.__module__, name)


def _digest(values: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:32]
