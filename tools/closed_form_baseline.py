"""Predict mattes with PyMatting's closed-form solver, a classical method for comparison with a trained model.

    python tools/closed_form_baseline.py --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR

Levin et al., "A Closed-Form Solution to Natural Image Matting", 2008. Files are read, paired and written as in
inference.py, so evaluation.py can score both. The tool needs requirements/test.txt.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from tqdm import tqdm

from data.images.trimap import UNKNOWN, fuse_with_trimap
from data.images.writing import write_picture
from engine.inference import plan_files, read_inputs
from runtime.command_line import run
from runtime.errors import InputError

TRIMAP_LEVELS = {0: 0.0, UNKNOWN: 0.5, 255: 1.0}


def closed_form_alpha(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 and (H, W) uint8 of 0, 128, 255 -> (H, W) uint8 alpha."""
    try:
        from pymatting import estimate_alpha_cf
    except ImportError as error:
        raise InputError("PyMatting is not installed: pip install -r requirements/test.txt") from error
    levels = np.vectorize(TRIMAP_LEVELS.get, otypes=[float])(trimap)
    alpha = estimate_alpha_cf(image / 255.0, levels)
    return fuse_with_trimap(np.rint(alpha * 255).astype(np.uint8), trimap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True)
    parser.add_argument("--trimap", required=True)
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    for job in tqdm(plan_files(arguments.image, arguments.trimap, arguments.output), unit="image", disable=None):
        arrays = read_inputs(job)
        write_picture(job.outputs["alpha"], closed_form_alpha(arrays["image"], arrays["trimap"]))


if __name__ == "__main__":
    run(main)
