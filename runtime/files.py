"""Whole-or-nothing files: an output is written to a temporary name and renamed, so that half a file is never seen."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import InputError

NAME_HINT = 50  # characters of its target's name in a temporary file's: with 255 bytes allowed, room for any script

_unfinished: set[Path] = set()


@contextlib.contextmanager
def replacing(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on any failure.

    The rename is atomic, so a reader, a full disk or Ctrl-C never meets half a file. A link is followed, and what is
    no regular file (a pipe, /dev/null) is written into at the end instead of being replaced.

    Args:
        durable: return only when the new name, too, would outlast a power loss; the content would in any case.
    """
    target = Path(os.path.realpath(path))
    special = target.exists() and not target.is_file()
    temporary = temporary_beside(path, Path(tempfile.gettempdir()) / target.name if special else target)
    _unfinished.add(temporary)
    try:
        yield temporary
        if special:
            with open(temporary, "rb") as written, open(target, "wb") as opened:
                shutil.copyfileobj(written, opened)
            return
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; outputs get ordinary permissions
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
        if durable:
            _sync_folder(target.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` on success, remove it on any failure.

    Raises:
        InputError: `path` is a file, or a folder that holds files, which are left alone; or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{path}: expected a new or empty folder, found {kind_of(target)}; name another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:NAME_HINT]}.", suffix=".part"))
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error
    _unfinished.add(temporary)
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _unfinished.discard(temporary)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can; the files in it are whole either way."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def discard_unfinished() -> None:
    """Remove the temporary files and folders of writes under way: for a program that ends without waiting."""
    for temporary in list(_unfinished):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def hash_file(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def temporary_beside(path: str | os.PathLike, target: Path) -> Path:
    """Make an empty file beside `target`, and its folder if needed; errors name `path`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name[:NAME_HINT]}."
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".part")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error
    os.close(descriptor)
    return Path(name)


def kind_of(path: Path) -> str:
    """What is at `path`, for messages."""
    if path.is_dir():
        return "a folder"
    if path.is_file():
        return "a file"
    if path.exists():
        return "a pipe, a device or a socket"
    return "a broken link" if path.is_symlink() else "nothing"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
