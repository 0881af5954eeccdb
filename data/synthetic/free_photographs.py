"""Backgrounds with licences that allow redistributing a trained model: free photographs and procedural textures.

The photographs are from Debian packages and scikit-image's wheel. `free_photographs.csv` lists them with author and
licence: CC0, public domain or CC-BY. Share-alike and GPL pictures of the same packages are not included.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.images.files import read_rgb
from data.synthetic import textures
from data.synthetic.photographs import shipped_folder
from data.synthetic.qt_resources import resource_files
from runtime.errors import InputError
from runtime.files import replacing

LIST = Path(__file__).with_name("free_photographs.csv")
LONGEST_SIDE = 1280  # pixels, as training crops show a quarter and more of a picture
QUALITY = 92
TEXTURE_SIDE = 640
SCIKIT_IMAGE = "scikit-image"
DEBIAN_FOLDERS = {"lomiri-wallpapers-16.04": "usr/share/backgrounds", "gcompris-qt-data": "usr/share/gcompris-qt/rcc"}


@dataclass(frozen=True)
class FreePhotograph:
    """A row of the list: `file` in `package`, or ARCHIVE.rcc/FILE; `name` is the name of the JPEG made from it."""

    package: str
    file: str
    name: str
    author: str
    licence: str
    source: str


def free_photographs() -> list[FreePhotograph]:
    """The list in this package."""
    with LIST.open(encoding="utf-8", newline="") as stream:
        return [FreePhotograph(**row) for row in csv.DictReader(stream)]


def write_photographs(unpacked: Path | None, folder: Path) -> tuple[list[FreePhotograph], list[str]]:
    """Write every available photograph of the list as a JPEG of at most 1280 pixels, and `ATTRIBUTION.csv`.

    Args:
        unpacked: folder with the unpacked Debian packages (`dpkg -x`), or None for scikit-image's photographs alone.
        folder: output folder for NAME.jpg.

    Returns:
        The written photographs, and for each package with missing files a line that says how to get it.
    """
    written, missing = [], {}
    for photograph in free_photographs():
        picture = _read(photograph, unpacked)
        if picture is None:
            missing.setdefault(photograph.package, []).append(photograph.file)
            continue
        _write_jpeg(folder / f"{photograph.name}.jpg", _reduced(picture))
        written.append(photograph)
    with replacing(folder / "ATTRIBUTION.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["picture", "author", "licence", "package", "file", "source"])
        rows.writerows([f"{p.name}.jpg", p.author, p.licence, p.package, p.file, p.source] for p in written)
    return written, [_how_to_get(package, files) for package, files in missing.items()]


def write_textures(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` procedural backgrounds, texture_K.jpg of 640 x 640. Number K depends on (seed, K) alone."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        texture = textures.pick(rng, textures.BACKDROPS if rng.random() < 0.6 else textures.SURFACES)
        _write_jpeg(folder / f"texture_{index:04d}.jpg", texture(rng, TEXTURE_SIDE, TEXTURE_SIDE))


def _read(photograph: FreePhotograph, unpacked: Path | None) -> np.ndarray | None:
    """(H, W, 3) uint8, None if its file does not exist."""
    if photograph.package == SCIKIT_IMAGE:
        path = shipped_folder() / photograph.file
        return read_rgb(path) if path.is_file() else None
    if unpacked is None:
        return None
    archive, _, inner = photograph.file.rpartition("/")
    path = unpacked / DEBIAN_FOLDERS[photograph.package] / (archive or inner)
    if not path.is_file():
        return None
    if not archive:
        return read_rgb(path)
    content = dict(_named(path, inner)).get(inner)
    if content is None:
        return None
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _named(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    return (entry for entry in resource_files(path) if entry[0] == name)


def _reduced(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def _write_jpeg(path: Path, picture: np.ndarray) -> None:
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=QUALITY)


def _how_to_get(package: str, files: list[str]) -> str:
    how = (
        "install requirements.txt"
        if package == SCIKIT_IMAGE
        else f"apt-get download {package}; dpkg -x {package}_*.deb DIR; then --packages DIR"
    )
    return f"{package}: {len(files)} photographs not found ({', '.join(files[:2])}, ...); {how}"


def require_any(written: list[FreePhotograph], textures_written: int) -> None:
    """Raise InputError if the folder would not contain any background."""
    if not written and not textures_written:
        raise InputError("no background written: give --packages DIR, or --textures N")
