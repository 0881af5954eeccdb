"""Manifests: a JSON file of the hashes of a built data set, and the check of a folder against it."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.preparation.published_composite import read_as_stored
from runtime.errors import InputError
from runtime.files import hash_file, replacing
from runtime.pool import outcomes

FORMAT = 1
IDENTICAL, RECODED = "identical", "recoded"
LARGEST_MANIFEST = 256 * 2**20  # bytes


@dataclass(frozen=True)
class FileRecord:
    """One file of the set.

    Args:
        sha256, bytes: hash and size of the file.
        width, height, channels: size of the picture in pixels; 1 channel for a matte or trimap, else 3.
        pixels: SHA-256 of its 8-bit values, row by row, colours as R, G, B, which does not depend on the encoding.
        sources: its sources: "folder/name" -> SHA-256 of the file.
    """

    sha256: str
    bytes: int
    width: int
    height: int
    channels: int
    pixels: str
    sources: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """A set: `files` maps "folder/name" to its record; `made_with` has versions on which the pixels may depend."""

    made_with: dict[str, str]
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class Verification:
    """Result of a comparison: a line for each problem, and numbers of identical and of differently encoded files."""

    problems: list[str]
    identical: int
    recoded: int


def describe_file(path: Path, pixels: np.ndarray, sources: Mapping[str, str]) -> FileRecord:
    """Record of a file with `pixels`, (H, W) or (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    return FileRecord(
        hash_file(path), path.stat().st_size, width, height, channels, _pixel_digest(pixels), dict(sources)
    )


def write_manifest(path: str | os.PathLike, manifest: Manifest) -> None:
    """Write a manifest as JSON, atomically, with the files in the order of their names."""
    record = {
        "format": FORMAT,
        "made_with": manifest.made_with,
        "files": {name: asdict(manifest.files[name]) for name in sorted(manifest.files)},
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_manifest(path: str | os.PathLike) -> Manifest:
    """Read a file of `write_manifest`.

    Raises:
        InputError: the file does not exist or is not a manifest.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a manifest that tools/make_composition1k.py wrote, found no file")
    if path.stat().st_size > LARGEST_MANIFEST:
        raise InputError(f"{path}: expected a manifest, found {path.stat().st_size:,} bytes")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(f"{path}: expected a manifest of format {FORMAT}, found {record['format']!r}")
        files = {_plain_name(name): _file_record(entry) for name, entry in record["files"].items()}
        return Manifest(dict(record["made_with"]), files)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a manifest that tools/make_composition1k.py wrote, cannot be read as one "
            f"({type(error).__name__}: {error}); delete it and build the set again"
        ) from error


def verify(folder: str | os.PathLike, manifest: Manifest, num_workers: int = 1, progress: bool = True) -> Verification:
    """Compare the files of a folder with a manifest. Missing, different and additional files are problems.

    A file whose bytes differ is decoded. With the same pixels it is accepted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected the folder to compare with the manifest, found none")
    tasks = {name: (name, record) for name, record in manifest.files.items()}
    compared = outcomes(tasks, partial(_compare, folder), num_workers, preload=("data.preparation.manifest",))
    with contextlib.closing(compared):
        found = dict(tqdm(compared, "comparing", len(tasks), unit="file", disable=None if progress else True))
    counts = Counter(found.values())
    problems = [found[name] for name in sorted(found) if found[name] not in (IDENTICAL, RECODED)]
    return Verification(problems + _additional(folder, manifest), counts[IDENTICAL], counts[RECODED])


def _compare(folder: Path, task: tuple[str, FileRecord]) -> str:
    """IDENTICAL, RECODED, or a line that describes the problem of a file."""
    name, record = task
    path = folder / name
    if not path.is_file():
        return f"{path}: in the manifest, but missing; build the set again"
    if path.stat().st_size == record.bytes and hash_file(path) == record.sha256:
        return IDENTICAL
    pixels = read_as_stored(path)
    height, width = pixels.shape[:2]
    if (width, height) != (record.width, record.height):
        return f"{path}: {width} x {height} pixels, the manifest has {record.width} x {record.height}; build it again"
    if record.channels == 1:
        pixels = pixels[..., 0]
    if _pixel_digest(pixels) != record.pixels:
        return f"{path}: other pixels than the manifest's; delete the file and build the set again"
    return RECODED


def _additional(folder: Path, manifest: Manifest) -> list[str]:
    """A line for each additional file in the folders of the manifest; hidden files are ignored."""
    lines = []
    for subfolder in sorted({name.partition("/")[0] for name in manifest.files}):
        here = sorted(path.name for path in (folder / subfolder).glob("*") if not path.name.startswith("."))
        foreign = [name for name in here if f"{subfolder}/{name}" not in manifest.files]
        lines += [f"{folder / subfolder / name}: not in the manifest; remove it" for name in foreign]
    return lines


def _pixel_digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()


def _plain_name(name: str) -> str:
    """A "folder/name" that stays below the folder that it is joined to."""
    if name.count("/") != 1 or "\\" in name or {"", ".", ".."} & set(name.split("/")) or ":" in name:
        raise ValueError(f"{name!r} is not of the form FOLDER/NAME")
    return name


def _file_record(entry: dict) -> FileRecord:
    """A record, after a check of the kinds of its fields."""
    record = FileRecord(**entry)
    numbers, texts = (record.bytes, record.width, record.height, record.channels), (record.sha256, record.pixels)
    if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
        raise ValueError("a record contains values other than whole numbers and hashes")
    if not isinstance(record.sources, dict):
        raise ValueError("the sources of a record are not a mapping")
    return record
