"""Make a picture of results: composites, their trimaps, the mattes of a model, and the subjects over a plain colour.

python tools/render_foregrounds.py --families fur plush hair umbel seedhead fern flower conifer \\
    --count 24 --seed 4242 --size 320 --output library
python tools/result_picture.py --library library --output docs/images/result.jpg \\
    --names fur_s4242_00001 flower_s4242_00016 seedhead_s4242_00004

Each row composites one foreground of the library over a photograph that ships with scikit-image and predicts its matte.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from data.images.files import read_gray, read_rgb
from data.images.foreground_colours import composite_over
from data.images.trimap import trimap_from_alpha
from data.synthetic.photographs import shipped_photographs
from engine.inference import Predictor
from modeling.weights.shipped import BOX
from modeling.weights.system_file import read_system
from runtime.command_line import run
from runtime.errors import InputError
from tools.foreground_sheet import write

BAND = 21  # side of the ellipse that erodes the known regions of the trimap, pixels
PLAIN = np.array([30, 144, 255], np.uint8)


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--library", type=Path, required=True, help="folder with fg and alpha")
    parser.add_argument("--names", nargs="+", required=True, help="foregrounds of the library, one for each row")
    parser.add_argument("--checkpoint", type=Path, default=BOX, help="matting system (default: the model in the box)")
    parser.add_argument("--output", type=Path, required=True, help="picture to write, .jpg or .png")
    args = parser.parse_args()
    predictor = Predictor(read_system(args.checkpoint))
    write(args.output, np.vstack([row(args.library, name, index, predictor) for index, name in enumerate(args.names)]))


def row(library: Path, name: str, index: int, predictor: Predictor) -> np.ndarray:
    """Composite, trimap, matte and cut-out of one foreground, (H, 4 W, 3) uint8.

    Raises:
        InputError: the library has no foreground of this name.
    """
    if not (library / "fg" / f"{name}.png").is_file():
        raise InputError(f"--names: expected foregrounds of {library}, found no fg/{name}.png")
    alpha = read_gray(library / "alpha" / f"{name}.png")
    foreground = read_rgb(library / "fg" / f"{name}.png")
    image = composite_over(foreground, alpha, photograph(index, alpha.shape), foreground)
    trimap = trimap_from_alpha(alpha / np.float32(255), BAND, BAND)
    matte = predictor.one({"image": image, "trimap": trimap})["alpha"]
    return np.hstack([image, cv2.merge([trimap] * 3), cv2.merge([matte] * 3), composite_over(image, matte, PLAIN)])


def photograph(index: int, size: tuple[int, int]) -> np.ndarray:
    """Centre of one of three photographs of scikit-image at `size` (height, width), (H, W, 3) uint8."""
    height, width = size
    picture = shipped_photographs()[(2, 3, 5)[index % 3]]
    scale = max(height / picture.shape[0], width / picture.shape[1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


if __name__ == "__main__":
    run(main)
