"""Cache of decoded pictures: .npy files mapped into memory, which all processes share through the page cache."""

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
AUTO_SHARE = 0.25  # share of the memory for cache="auto"; files beyond the page cache are read from the disk each time
SPARE_SPACE = 0.1  # share of the file system that stays free
IMPLAUSIBLE = 10**12  # bytes from which a limit is probably in the wrong unit
SETTLED_AFTER = 2.0  # seconds, because two changes within one tick of the file's clock cannot be distinguished
HEADER = 128  # bytes of a .npy file before its values
ABANDONED_AFTER = 3600  # seconds without a change after which an incomplete entry is removed
OWN_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.npy|\..*\.part")  # name of an entry, complete or not
PLAIN = (str, bytes, int, float, bool, type(None))  # types of decoder arguments with the same text in every process

logger = logging.getLogger(__name__)


class DecodedCache:
    """Store results of `decode(path)` on disk, for all processes and later runs of the user on this machine.

    An entry is written under a temporary name and renamed. Its name depends on the file's path, decoder, inode, size
    and modification times. A changed file is decoded again, and its older entry is removed. If an entry cannot be read
    or written, the file is decoded, so samples are the same with and without the cache. When the limit is reached, or
    only a tenth of the file system is free, existing entries remain and other files are decoded each time.

    Args:
        limit: largest total size of the entries, as a number of bytes or a text such as "4GB"; "auto" for a quarter of
            the memory; None or "off" for no cache.
        folder: folder for the entries, which only the user may write to. The default is the environment variable
            DINOMATTE_CACHE, or a folder in the system's temporary folder. Other files in it are not changed.

    Raises:
        InputError: an invalid limit.
    """

    def __init__(self, limit: str | int | None = "auto", folder: str | os.PathLike | None = None):
        self.limit = parse_limit(limit)
        self.folder = Path(folder) if folder is not None else default_folder()
        self.storing = self.limit > 0
        self._is_own: bool | None = None

    def read(self, path: str | os.PathLike, decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Return `decode(path)`, an (H, W) or (H, W, C) uint8 array, which may be read-only.

        Entries of different decoders are distinguished by the decoders' names, and for a `functools.partial` also by
        its arguments. Results of a decoder without a name, or of a partial with objects as arguments, are not stored.

        Raises:
            Errors of `decode`.
        """
        entry = self._entry(path, decode) if self._usable() else None
        if entry is None:
            return decode(path)
        try:
            return np.load(entry, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):  # missing or damaged
            decoded = decode(path)
        if self.storing and decoded.dtype == np.uint8 and self._entry(path, decode) == entry:  # unchanged meanwhile
            self._store(entry, decoded)
        return decoded

    def _usable(self) -> bool:
        """Return whether the folder exists or can be created, and no other user can write to it."""
        if self.limit and self._is_own is None:
            try:
                _make_own(self.folder)
            except OSError as error:
                self._is_own = self._stop(error)
            else:
                self._is_own = True
        return bool(self._is_own)

    def _stop(self, error: Exception) -> bool:
        logger.warning("decoded pictures not cached: %s: %s", self.folder, getattr(error, "strerror", None) or error)
        self.storing = False
        return False

    def _entry(self, path: str | os.PathLike, decode: Callable) -> Path | None:
        """Path of the entry for the current state of a file; None if the file is missing or was changed just now."""
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
                    "%s: full, with %.1f GB of decoded pictures; delete the folder if they are of other data",
                    self.folder,
                    used / 1e9,
                )
                return
            with replacing(entry) as temporary, open(temporary, "wb") as opened:
                np.save(opened, np.ascontiguousarray(picture))
        except FileNotFoundError:  # removed by another process meanwhile; a later sample stores it
            pass
        except (OSError, InputError) as error:  # such as a full disk; training continues without storing
            self._stop(error)


def parse_limit(limit: str | int | None) -> int:
    """Convert a setting to bytes: a number, "4GB", "512MiB", "auto", "off" or None.

    Raises:
        InputError: any other setting.
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
    """Folder named by DINOMATTE_CACHE, else the user's folder in the system's temporary folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(tempfile.gettempdir()) / f"dinomatte-{os.getuid()}"


def _make_own(folder: Path) -> None:
    """Create the folder, and remove old incomplete entries of killed processes.

    Raises:
        OSError: the folder cannot be created, or other users can write to it.
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
    """Name that identifies a decoder in all processes; None if there is none."""
    if isinstance(decode, functools.partial):
        name, arguments = _decoder_name(decode.func), [*decode.args, *decode.keywords.values()]
        if name is None or not all(isinstance(value, PLAIN) for value in arguments):
            return None
        return *name, decode.args, tuple(sorted(decode.keywords.items()))
    name = getattr(decode, "__qualname__", None)
    return None if name is None else (decode.__module__, name)


def _digest(values: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:32]
