"""Make trimaps from masks: a band of unknown pixels along the edge of each object.

    python tools/make_trimap.py --mask FILE_OR_DIR --output FILE_OR_DIR [--width auto|PIXELS]
        [--image FILE_OR_DIR --preview FILE_OR_DIR]

A mask may be binary, soft (a matte or probabilities), a label map, or a cut-out with an alpha channel
(docs/trimaps.md). --width is the width of the band on each side of the edge; auto adapts it to the size of each object
and to the resolution of the mask. --preview draws the borders of the band over the image.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from data.images.files import IMAGE_SUFFIXES, images_by_stem, read_rgb, write_png
from data.images.mask_to_trimap import Cleaning, mask_cell, trimap_from_mask, trimap_from_probability, unknown_share
from data.images.masks import read_mask
from data.images.pairing import fitted
from data.images.trimap import BACKGROUND, FOREGROUND
from runtime.command_line import run, tell
from runtime.errors import InputError
from runtime.files import kind_of
from runtime.output_folders import require_outside
from runtime.pool import outcomes, usable_cpus
from runtime.text import name_some, printable

SURE_COLOUR, POSSIBLE_COLOUR = (0, 200, 80), (230, 60, 60)  # RGB, of the borders of both regions
DIMMED = 0.35  # brightness of the image outside the object


class Job(NamedTuple):
    """The files of one trimap."""

    mask: Path
    output: Path
    image: Path | None
    preview: Path | None


class Report(NamedTuple):
    """Facts of a trimap: the coding of its mask, the side of its squares, and shares of the picture."""

    kind: str
    cell: int
    unknown: float
    foreground: float
    background: float

    def __str__(self) -> str:
        squares = f" of squares of {self.cell} pixels" if self.cell > 1 else ""
        line = f"{self.unknown:.1%} unknown, {self.foreground:.1%} foreground ({self.kind} mask{squares})"
        if 1 in (self.background, self.foreground):
            return f"{line}; warning: the mask is {'empty' if self.background == 1 else 'full'}"
        return line if self.foreground else f"{line}; warning: no pixel is surely foreground, try a smaller --width"


def main() -> int:
    options = parse_arguments()
    cleaning = Cleaning(options.smallest_island, 0.0, options.smallest_hole)
    tasks = {str(job.output): job for job in plan(options)}
    failed = 0
    work = partial(make, width=options.width, cleaning=cleaning)
    for output, report in outcomes(tasks, work, min(options.num_workers, len(tasks))):
        if isinstance(report, Report):
            print(printable(f"{output}: {report}"))
        else:
            failed += 1
            tell(f"error: {report}")
    return 2 if failed else 0


def make(job: Job, width: float | None, cleaning: Cleaning) -> Report:
    """Write the trimap of one mask, and its preview.

    Raises:
        InputError: a file cannot be read or written, or the sizes differ.
    """
    mask, cell = read_mask(job.mask), 1
    if mask.kind == "soft":
        trimap = trimap_from_probability(mask.values, width, cleaning=cleaning)
    else:
        cell = mask_cell(mask.values)
        trimap = trimap_from_mask(mask.values, width, cell, cleaning)
    picture = None if job.image is None else read_rgb(job.image)
    if picture is not None and picture.shape[:2] != trimap.shape:
        sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (trimap, picture)]
        raise InputError(
            f"{job.mask}: the mask is {sizes[0]}, its image {job.image} {sizes[1]}; use a mask of its size"
        )
    write_png(job.output, trimap)
    if job.preview is not None:
        write_png(job.preview, preview_of(trimap, picture))
    shares = [float((trimap == level).mean()) for level in (FOREGROUND, BACKGROUND)]
    return Report(mask.kind, cell, unknown_share(trimap), *shares)


def preview_of(trimap: np.ndarray, picture: np.ndarray | None) -> np.ndarray:
    """(H, W, 3) uint8: the picture, dimmed in the background, with the borders of the unknown region drawn in."""
    shown = np.full((*trimap.shape, 3), 200, np.uint8) if picture is None else picture.copy()
    shown[trimap == BACKGROUND] = shown[trimap == BACKGROUND] * DIMMED
    thickness = max(1, round(max(trimap.shape) / 600))
    for region, colour in ((trimap == FOREGROUND, SURE_COLOUR), (trimap != BACKGROUND, POSSIBLE_COLOUR)):
        contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(shown, contours, -1, colour, thickness)
    return shown


def plan(options: argparse.Namespace) -> list[Job]:
    """The trimaps to make.

    Raises:
        InputError: a file beside a folder, a mask without image, an output that is not PNG or is an input.
    """
    mask, output, image, preview = options.mask, options.output, options.image, options.preview
    if mask.is_dir():
        masks = images_by_stem(mask, recursive=True)
        if not masks:
            raise InputError(f"{mask}: expected masks, found no image")
        for folder in (output, preview):
            if folder is not None:
                require_outside(folder, mask)
                if folder.suffix.lower() in IMAGE_SUFFIXES or folder.is_file():
                    raise InputError(f"{folder}: expected a folder for the results of a folder of masks")
        images: dict[str, Path] = {}
        if image is not None:
            found = fitted(masks, images_by_stem(image, recursive=True), "image", of="mask")
            if missing := [name for name in masks if name not in found]:
                raise InputError(f"{image}: expected an image for each mask, found none for {name_some(missing)}")
            images = {name: found[name] for name in masks}
        jobs = [
            Job(path, output / f"{name}.png", images.get(name), None if preview is None else preview / f"{name}.png")
            for name, path in masks.items()
        ]
    else:
        for path in (mask, *([image] if image else [])):
            if not path.is_file():
                raise InputError(f"{path}: expected an image file (or folders for all), found {kind_of(path)}")
        jobs = [Job(mask, _file(output, mask), image, None if preview is None else _file(preview, mask))]
    inputs = {os.path.realpath(path) for job in jobs for path in (job.mask, job.image) if path is not None}
    for path in (path for job in jobs for path in (job.output, job.preview) if path is not None):
        if path.suffix.lower() != ".png" or path.is_dir():
            raise InputError(f"{path}: trimaps and previews are written as PNG; name it *.png or give a folder")
        if os.path.realpath(path) in inputs:
            raise InputError(f"{path}: is an input file; choose another name for the output")
    if preview is not None and os.path.realpath(jobs[0].output) == os.path.realpath(jobs[0].preview):
        raise InputError(f"{preview}: is also the output; give the preview another name")
    return jobs


def _file(output: Path, mask: Path) -> Path:
    return output / f"{mask.stem}.png" if output.is_dir() or not output.suffix else output


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--mask", type=Path, required=True, help="mask, or folder of masks, which is read with its sub-folders"
    )
    parser.add_argument("--output", type=Path, required=True, help="trimap to write (PNG), or folder of trimaps")
    parser.add_argument(
        "--width",
        type=band_width,
        default="auto",
        metavar="auto|PIXELS",
        help="width of the band on each side of the edge (default: auto)",
    )
    parser.add_argument("--image", type=Path, help="image, or folder of images, to draw the previews over")
    parser.add_argument("--preview", type=Path, help="picture of the band to write (PNG), or folder of such pictures")
    parser.add_argument("--smallest-island", type=share, default=0.0, metavar="SHARE",
                        help="drop objects below this share of the picture (default: 0, keep all)")  # fmt: skip
    parser.add_argument("--smallest-hole", type=share, default=0.0, metavar="SHARE",
                        help="fill holes below this share of the picture (default: 0, keep all)")  # fmt: skip
    parser.add_argument("--num-workers", type=int, default=usable_cpus(), help="processes for a folder (default: all)")
    options = parser.parse_args()
    if options.image and not options.preview:
        raise InputError("--image: only has an effect with --preview; give both or neither")
    return options


def band_width(text: str) -> float | None:
    """An argument of --width: pixels, or None for "auto"."""
    if text == "auto":
        return None
    return _number(text, "auto or a number of pixels from 0 to 10000", 10_000)


def share(text: str) -> float:
    """An argument from 0 to 1."""
    return _number(text, "a share from 0 to 1", 1)


def _number(text: str, expected: str, largest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= largest:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value


if __name__ == "__main__":
    run(main)
