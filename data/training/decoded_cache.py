"""Cache of decoded pictures: .npy files mapped into memory, which all processes share through the page cache."""

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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
        named = folder if folder is not None else os.environ.get(FOLDER_VARIABLE)
        self.folder = Path(named or Path(tempfile.gettempdir()) / f"dinomatte-{os.getuid()}")
        self.storing = self.limit > 0

    def read(self, path: str | os.PathLike, decode: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Return `decode(path)`, an (H, W) or (H, W, C) uint8 array, which may be read-only.

        Entries of different decoders are distinguished by the decoders' pickled form: the name of a function, and the
        arguments of a `functools.partial`. Results of a decoder without one, such as a lambda, are not stored.

        Raises:
            Errors of `decode`.
        """
        entry = self._entry(path, decode) if self.limit and self._is_own else None
        if entry is None:
            return decode(path)
        try:
            return np.load(entry, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError, EOFError):  # missing or damaged
            decoded = decode(path)
        if self.storing and decoded.dtype == np.uint8 and self._entry(path, decode) == entry:  # unchanged meanwhile
            self._store(entry, decoded)
        return decoded

    @functools.cached_property
    def _is_own(self) -> bool:
        """Return whether the folder exists or can be created, and no other user can write to it."""
        try:
            _make_own(self.folder)
        except OSError as error:
            self._stop(error)
            return False
        return True

    def _stop(self, error: Exception) -> None:
        logger.warning("decoded pictures not cached: %s: %s", self.folder, getattr(error, "strerror", None) or error)
        self.storing = False

    def _entry(self, path: str | os.PathLike, decode: Callable) -> Path | None:
        """Path of the entry for the current state of a file; None if there is none or it changed just now."""
        try:
            found, decoder = os.stat(path), pickle.dumps(decode, protocol=4)
        except (OSError, pickle.PicklingError, AttributeError, TypeError):
            return None
        if time.time() - found.st_ctime < SETTLED_AFTER:
            return None
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, PIL.__version__)
        return self.folder / f"{_digest((os.path.abspath(path), decoder))}-{_digest(state)}.npy"

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


def _digest(values: tuple) -> str:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogateescape")).hexdigest()[:32]
