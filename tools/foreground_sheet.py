"""Make a contact sheet of libraries: pictures over backgrounds, with their alphas below.

    python tools/foreground_sheet.py --libraries sheets/branch sheets/fern --output foliage.jpg
    python tools/foreground_sheet.py --libraries sheets/fur --real cat.jpg:40,20,256 ... --output fur.jpg

With --real, a row of squares cut from photographs (LEFT,TOP,SIDE in pixels) is above each library, for comparison.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.files import images_by_stem, read_rgb
from data.images.mattes import read_matte
from data.synthetic.photographs import shipped_photographs
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing

FLAT = [(142, 150, 158), (88, 96, 84), (205, 200, 190)]


def main() -> None:
    """Parse the command line and write the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--libraries", nargs="+", type=Path, required=True, metavar="DIR", help="folders with fg and alpha, one per row"
    )
    parser.add_argument("--output", type=Path, required=True, help="picture to write, .jpg or .png")
    parser.add_argument("--columns", type=int, default=6, help="pictures of each library (default: 6)")
    parser.add_argument("--cell", type=int, default=144, help="side of a picture in pixels (default: 144)")
    parser.add_argument(
        "--real", nargs="+", default=[], type=crop, metavar="FILE:LEFT,TOP,SIDE", help="squares of photographs"
    )
    args = parser.parse_args()
    rows = [row for library in args.libraries for row in band(library, args.columns, args.cell)]
    if args.real:
        if len(args.real) != args.columns:
            raise InputError(f"--real: expected as many squares as --columns, {args.columns}, got {len(args.real)}")
        rows = [np.hstack([cut(*square, args.cell) for square in args.real]), *rows]
    write(args.output, np.vstack(rows))


def crop(text: str) -> tuple[Path, int, int, int]:
    """Parse FILE:LEFT,TOP,SIDE as a file and a square of it."""
    path, _, numbers = text.rpartition(":")
    parts = numbers.split(",")
    if not path or len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected FILE:LEFT,TOP,SIDE, got {text!r}")
    left, top, side = map(int, parts)
    return Path(path), left, top, side


def cut(path: Path, left: int, top: int, side: int, cell: int) -> np.ndarray:
    """A square of a photograph as (cell, cell, 3) uint8.

    Raises:
        InputError: the square is not inside the photograph.
    """
    photograph = read_rgb(path)
    height, width = photograph.shape[:2]
    if side < 1 or left + side > width or top + side > height:
        raise InputError(f"{path}: expected a square within {width} x {height}, got {left},{top},{side}")
    square = photograph[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if cell < side else cv2.INTER_CUBIC
    return cv2.resize(square, (cell, cell), interpolation=interpolation)


def band(library: Path, columns: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """A row of composites and a row of alphas, (cell, columns * cell, 3) uint8 each.

    Raises:
        InputError: the library has too few pictures.
    """
    paths = list(images_by_stem(library / "fg").values())[:columns]
    if len(paths) < columns:
        raise InputError(f"{library}: expected {columns} pictures, found {len(paths)}; render more")
    composites, alphas = [], []
    for index, path in enumerate(paths):
        size = (cell, cell)
        alpha = cv2.resize(read_matte(library / "alpha" / path.name), size, interpolation=cv2.INTER_AREA)
        weight = cv2.merge([alpha] * 3) / np.float32(255)
        foreground = cv2.resize(read_rgb(path), size, interpolation=cv2.INTER_AREA)
        composites.append(np.rint(weight * foreground + (1 - weight) * background(index, cell)).astype(np.uint8))
        alphas.append(cv2.merge([alpha] * 3))
    return np.hstack(composites), np.hstack(alphas)


def background(index: int, cell: int) -> np.ndarray:
    """A flat colour or a blurred photograph of scikit-image, alternately."""
    if index % 2 == 0:
        return np.full((cell, cell, 3), FLAT[index // 2 % len(FLAT)], np.uint8)
    photographs = shipped_photographs()[:4]
    photograph = photographs[index // 2 % len(photographs)]
    side = min(photograph.shape[:2])
    small = cv2.resize(photograph[:side, :side], (cell, cell), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), cell / 100)


def write(path: Path, sheet: np.ndarray) -> None:
    """Write the sheet atomically."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise InputError(f"--output: expected a name ending in .jpg or .png, got {path}")
    with replacing(path) as temporary:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(sheet).save(temporary, format=kind, quality=84, optimize=True)


if __name__ == "__main__":
    run(main)
