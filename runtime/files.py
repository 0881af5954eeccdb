"""Atomic files: an output is written to a temporary name and renamed, so that no partial file is ever visible."""

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import InputError

NAME_HINT = 50  # characters of the target's name in a temporary name, which has at most 255 bytes in any script

_unfinished: set[Path] = set()


@contextlib.contextmanager
def replacing(path: str | os.PathLike, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The rename is atomic, so no reader sees a partial file, even after Ctrl-C or on a full disk. Links are followed. A
    target that is not a regular file (a pipe, /dev/null) is not replaced; the content is copied into it at the end.

    Args:
        durable: whether the new name survives a power failure when the function returns; the content always does.
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
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files; outputs have ordinary permissions
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
    """Yield a temporary folder beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        InputError: `path` is a file, or a folder with files, which are not touched; or it cannot be written.
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
    """Write the entries of a folder to the disk, if the system can; its files are complete in either case."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def mark_unfinished(path: Path, unfinished: bool = True) -> None:
    """Let `discard_unfinished` remove a file or folder, or keep it again."""
    (_unfinished.add if unfinished else _unfinished.discard)(path)


def discard_unfinished() -> None:
    """Remove the temporary files and folders of unfinished writes, for a program that ends without waiting."""
    for temporary in list(_unfinished):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def hash_file(path: str | os.PathLike) -> str:
    """SHA-256 of the bytes of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()


def temporary_beside(path: str | os.PathLike, target: Path) -> Path:
    """Create an empty file beside `target`, and its folder if necessary. Errors name `path`."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name[:NAME_HINT]}."
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".part")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error
    os.close(descriptor)
    return Path(name)


def unfinished_of(target: str | os.PathLike) -> list[Path]:
    """Temporary files beside `target`, both from killed processes and from a process that is writing it."""
    target = Path(target)
    return sorted(target.parent.glob(f"{glob.escape(f'.{target.name[:NAME_HINT]}.')}*.part"))


def kind_of(path: Path) -> str:
    """Description of the object at `path`, for messages."""
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
