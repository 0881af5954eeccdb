"""Which mattes to make from which files: one image, a folder, or the Composition-1k layout."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images.files import IMAGE_SUFFIXES, read_rgb, read_trimap
from data.testing.composition1k import Composition1k
from data.testing.matting_folder import MattingFolder
from runtime.errors import InputError
from runtime.files import kind_of


@dataclass(frozen=True)
class Job:
    """One matte to make."""

    image: Path
    trimap: Path
    output: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `status` is "written", "skipped" or "failed"; `remark` says why or warns."""

    job: Job
    status: str
    remark: str = ""


def read_pair(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Read a job's image (H, W, 3) uint8 and trimap (H, W) uint8 of 0, 128 and 255.

    Raises:
        InputError: a file cannot be read, or the sizes differ.
    """
    image, trimap = read_rgb(job.image), read_trimap(job.trimap)
    if image.shape[:2] != trimap.shape:
        raise InputError(
            f"{job.trimap}: the trimap is {_size(trimap)}, its image {job.image} is {_size(image)}; "
            "make the trimap at the image's size"
        )
    return image, trimap


def plan_files(image: str, trimap: str, output: str) -> list[Job]:
    """Pair one image with one trimap, or the images of a folder with the trimaps of another, by name.

    Raises:
        InputError: a file beside a folder, an image without trimap or the reverse, an output that is not PNG.
    """
    image_path, trimap_path, output_path = Path(image), Path(trimap), Path(output)
    if image_path.is_dir():
        return _plan_folder(MattingFolder(image_path, trimap_path, allow_extra=False), output_path)
    for path in (image_path, trimap_path):
        if not path.is_file():
            raise InputError(f"{path}: expected an image file (or two folders), found {kind_of(path)}")
    if output_path.is_dir() or not output_path.suffix:
        output_path = output_path / f"{image_path.stem}.png"
    _check_output(output_path, image_path, trimap_path)
    _check_folder(output_path.parent)
    return [Job(image_path, trimap_path, output_path)]


def plan_composition1k(root: str, output_dir: str) -> list[Job]:
    """Pair `root`/merged with `root`/trimaps, the layout of the Composition-1k test set."""
    return _plan_folder(Composition1k(root, require_alpha=False), Path(output_dir))


def _plan_folder(pairs: MattingFolder, output_dir: Path) -> list[Job]:
    files = pairs.files()
    if output_dir.suffix.lower() in IMAGE_SUFFIXES or output_dir.is_file():
        raise InputError(f"{output_dir}: expected a folder for the mattes of a folder of images")
    for folder in (pairs.image_dir, pairs.trimap_dir):
        if os.path.realpath(output_dir) == os.path.realpath(folder):
            raise InputError(f"{output_dir}: is an input folder; the mattes need a folder of their own")
    _check_folder(output_dir)
    images = [(item["image"], item["trimap"]) for item in files]
    jobs = [Job(image, trimap, output_dir / f"{image.stem}.png") for image, trimap in images]
    for job in jobs:
        _check_output(job.output, job.image, job.trimap)
    return jobs


def _check_output(output: Path, *inputs: Path) -> None:
    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: mattes are written as PNG; name the output *.png or give a folder")
    if output.is_dir():
        raise InputError(f"{output}: expected a file or nothing where the matte goes, found a folder; remove it")
    target = os.path.realpath(output)
    if any(target == os.path.realpath(path) for path in inputs):
        raise InputError(f"{output}: is an input file; the matte needs a name of its own")


def _check_folder(folder: Path) -> None:
    """Refuse, before long work, a folder for mattes that cannot be written to, or not be made."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not existing.is_dir():
        raise InputError(f"{folder}: expected a folder for the mattes, found {kind_of(existing)} at {existing}")
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InputError(f"{folder}: cannot write: no permission to write to {existing}; choose another folder")


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
