"""Builder of the Composition-1k test set from the Deep Image Matting distribution, resumable and with a manifest."""

import contextlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import PIL
from PIL import features
from tqdm import tqdm

from data.images.files import images_by_stem, write_png
from data.images.pairing import name_key
from data.images.scan import require_none
from data.preparation.manifest import FileRecord, Manifest, describe_file, read_manifest, write_manifest
from data.preparation.name_lists import read_names
from data.preparation.published_composite import published_composite, read_as_stored
from runtime.errors import InputError
from runtime.files import hash_file, replacing
from runtime.output_folders import empty_or_own
from runtime.pool import outcomes

BACKGROUNDS_PER_FOREGROUND = 20
IMAGES = "Adobe-licensed images"
MANIFEST = "manifest.json"
FOLDERS = ("merged", "trimaps", "alpha_copy")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Composite:
    """One test image: `name` is that of the foreground with _k; the other fields are its source files."""

    name: str
    fg: Path
    alpha: Path
    trimap: Path
    bg: Path


@dataclass(frozen=True)
class Built:
    """Numbers of files of a build: `made`, and `kept` ones that existed with the right hash."""

    made: int
    kept: int


def plan_composites(
    test_set: str | os.PathLike,
    background_dirs: Sequence[str | os.PathLike],
    per_foreground: int = BACKGROUNDS_PER_FOREGROUND,
) -> list[Composite]:
    """Source files of each test image: each foreground of the lists is over the next `per_foreground` backgrounds.

    Args:
        test_set: the distribution's `Test_set`: two lists of names, and fg, alpha and trimaps of the licensed images.
            A trimap is NAME_k, one for each test image, or NAME for all of a foreground's.
        background_dirs: folders of PASCAL VOC photographs. Each name is read from the first folder that contains it.
        per_foreground: number of backgrounds for each foreground.

    Raises:
        InputError: a list or folder is missing, the lists do not match, or files on them are missing; the message names
            the first few.
    """
    test_set = Path(test_set)
    fg_list, bg_list = test_set / "test_fg_names.txt", test_set / "test_bg_names.txt"
    fg_names, bg_names = read_names(fg_list), read_names(bg_list)
    if len(bg_names) != per_foreground * len(fg_names):
        raise InputError(
            f"{bg_list}: expected {per_foreground} backgrounds for each of the {len(fg_names)} foregrounds in "
            f"{fg_list.name}, {per_foreground * len(fg_names)} lines, found {len(bg_names)}; use the original lists"
        )
    _require_distinct(fg_names, fg_list)
    sources = _Sources(test_set / IMAGES, [Path(folder) for folder in background_dirs])
    composites = [
        sources.composite(fg_names[index // per_foreground], index % per_foreground, bg_name)
        for index, bg_name in enumerate(bg_names)
    ]
    require_none(
        list(dict.fromkeys(sources.missing)), "complete the distribution's files and the PASCAL VOC photographs"
    )
    return composites


def build_composition1k(
    composites: Sequence[Composite], output: str | os.PathLike, num_workers: int = 1, progress: bool = True
) -> Built:
    """Write merged/, trimaps/ and alpha_copy/ and the manifest. Existing files with the right hash are kept.

    The manifest is updated after each foreground, so a stopped build can be continued.

    Raises:
        InputError: a source cannot be used (all others are processed first), or `output` contains another set.
    """
    output = Path(output)
    names = [f"{composite.name}.png" for composite in composites]
    folders = empty_or_own(output, dict.fromkeys(FOLDERS, names))
    for folder in folders.values():
        _make_folder(folder)
    made_with = {"pillow": PIL.__version__, "libjpeg": features.version_codec("jpg") or ""}
    known = _known_files(output / MANIFEST, made_with)

    groups = defaultdict(list)
    for composite in composites:
        groups[composite.fg.name].append(composite)
    tasks = {name: (group, _records_of(group, known)) for name, group in groups.items()}
    files, kept, failed = {}, 0, []
    results = outcomes(tasks, partial(_build_group, output), num_workers, preload=(__name__,))
    bar = tqdm(total=len(composites), desc="composing", unit="image", disable=None if progress else True)
    with contextlib.closing(results), bar:
        for name, result in results:
            if isinstance(result, str):
                failed.append(result)
                continue
            files.update(result.records)
            kept += result.kept
            write_manifest(output / MANIFEST, Manifest(made_with, known | files))
            bar.update(len(groups[name]))
    require_none(failed, "repair these sources and run again; finished files are kept")
    write_manifest(output / MANIFEST, Manifest(made_with, files))
    return Built(len(files) - kept, kept)


class _Sources:
    """Finder of the source files of a test image; missing ones are collected in `missing`."""

    def __init__(self, images: Path, background_dirs: Sequence[Path]):
        self.fg_dir = images / "fg"
        self.alphas = images_by_stem(images / "alpha")
        self.trimaps = images_by_stem(images / "trimaps")
        self.images, self.background_dirs = images, background_dirs
        for folder in (self.fg_dir, *background_dirs):
            if not folder.is_dir():
                raise InputError(f"{folder}: expected a folder of images, found none")
        self.missing: list[str] = []

    def composite(self, fg_name: str, number: int, bg_name: str) -> Composite:
        stem = Path(fg_name).stem
        name = f"{stem}_{number}"
        backgrounds = [folder / bg_name for folder in self.background_dirs]
        return Composite(
            name,
            fg=self._first([self.fg_dir / fg_name], f"{self.fg_dir / fg_name}: no such foreground"),
            alpha=self._first([self.alphas.get(stem)], f"{self.images / 'alpha'}: no alpha {stem}"),
            trimap=self._first(
                [self.trimaps.get(name), self.trimaps.get(stem)], f"{self.images / 'trimaps'}: no trimap {name}"
            ),
            bg=self._first(backgrounds, f"{bg_name}: in none of the folders of backgrounds"),
        )

    def _first(self, candidates: Iterable[Path | None], missing: str) -> Path:
        for path in candidates:
            if path is not None and path.is_file():
                return path
        self.missing.append(missing)
        return Path()


@dataclass(frozen=True)
class _GroupResult:
    records: dict[str, FileRecord]
    kept: int


class _Group:
    """Test images of one foreground, whose foreground and alpha are decoded once and only if they are needed."""

    def __init__(self, composites: Sequence[Composite], output: Path, known: dict[str, FileRecord]):
        self.composites, self.output, self.known = composites, output, known
        self.kept = 0
        self.hashes: dict[Path, str] = {}

    @cached_property
    def foreground(self) -> np.ndarray:
        return read_as_stored(self.composites[0].fg)

    @cached_property
    def alpha(self) -> np.ndarray:
        return self._gray_of_size(self.composites[0].alpha)

    def build(self) -> _GroupResult:
        records = {}
        for composite in self.composites:
            for name, sources, write in (
                ("merged", (composite.fg, composite.alpha, composite.bg), self._write_merged),
                ("alpha_copy", (composite.alpha,), self._write_alpha),
                ("trimaps", (composite.trimap,), self._write_trimap),
            ):
                key = f"{name}/{composite.name}.png"
                hashes = {f"{path.parent.name}/{path.name}": self._hash(path) for path in sources}
                path = self.output / key
                records[key] = self._kept(key, hashes) or describe_file(path, write(path, composite), hashes)
        return _GroupResult(records, self.kept)

    def _kept(self, key: str, hashes: dict[str, str]) -> FileRecord | None:
        """Known record of an unchanged file that was made from the same sources."""
        record, path = self.known.get(key), self.output / key
        if record is None or record.sources != hashes or not path.is_file() or hash_file(path) != record.sha256:
            return None
        self.kept += 1
        return record

    def _write_merged(self, path: Path, composite: Composite) -> np.ndarray:
        background = read_as_stored(composite.bg)
        try:
            merged = published_composite(self.foreground, background, self.alpha)
        except InputError as error:
            raise InputError(f"{composite.bg}: {error}") from error
        write_png(path, merged)
        return merged

    def _write_alpha(self, path: Path, composite: Composite) -> np.ndarray:
        _copy_as_png(composite.alpha, path, self.alpha)
        return self.alpha

    def _write_trimap(self, path: Path, composite: Composite) -> np.ndarray:
        trimap = self._gray_of_size(composite.trimap)
        _copy_as_png(composite.trimap, path, trimap)
        return trimap

    def _gray_of_size(self, path: Path) -> np.ndarray:
        """Read (H, W) uint8, the first channel as in the published scripts, and check its size."""
        gray = np.ascontiguousarray(read_as_stored(path)[..., 0])
        if gray.shape != self.foreground.shape[:2]:
            height, width = self.foreground.shape[:2]
            raise InputError(
                f"{path}: {gray.shape[1]} x {gray.shape[0]} pixels, but {self.composites[0].fg} has {width} x {height}"
            )
        return gray

    def _hash(self, path: Path) -> str:
        if path not in self.hashes:
            self.hashes[path] = hash_file(path)
        return self.hashes[path]


def _build_group(output: Path, task: tuple[list[Composite], dict[str, FileRecord]]) -> _GroupResult:
    return _Group(task[0], output, task[1]).build()


def _copy_as_png(source: Path, target: Path, gray: np.ndarray) -> None:
    """Copy a PNG byte for byte; write a file of another format as a gray PNG."""
    with open(source, "rb") as opened:
        is_png = opened.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    if not is_png:
        write_png(target, gray)
        return
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _known_files(path: Path, made_with: dict[str, str]) -> dict[str, FileRecord]:
    """Records of an earlier build, empty if there was none or its composites may differ."""
    if not path.exists():
        return {}
    manifest = read_manifest(path)
    return manifest.files if manifest.made_with == made_with else {}


def _records_of(group: Sequence[Composite], known: dict[str, FileRecord]) -> dict[str, FileRecord]:
    keys = [f"{folder}/{composite.name}.png" for composite in group for folder in FOLDERS]
    return {key: known[key] for key in keys if key in known}


def _require_distinct(fg_names: Sequence[str], fg_list: Path) -> None:
    """Refuse names that would give test images of the same name, also on file systems that ignore case."""
    seen: dict[str, str] = {}
    for name in fg_names:
        stem = name_key(Path(name).stem)
        if stem in seen:
            raise InputError(f"{fg_list}: {seen[stem]} and {name} give test images of the same name; remove one")
        seen[stem] = name


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
