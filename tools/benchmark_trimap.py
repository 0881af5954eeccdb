"""Benchmark of trimaps from masks: the share of soft pixels in the band, the size of the band, and the matte's error.

    python tools/benchmark_trimap.py [--images 24] [--size 384] [--cells 1 8] [--widths auto 4 8 16 32] [--no-matting]

The images are procedural. A mask is the true alpha cut at 0.5, as a careful user draws it (cell 1) or as a network with
cells of several pixels predicts it. "soft inside" is the share of the pixels with 0.02 < alpha < 0.98 that are unknown,
and "band" is the share of all pixels that are. SAD is that of the model in the box over the whole picture.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from data.images.mask_to_trimap import trimap_from_mask, unknown_share
from data.images.trimap import UNKNOWN
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from engine.inference import Predictor
from metrics import METRICS, score_image
from modeling.weights.system_file import read_system
from runtime.command_line import run

SOFT = (5, 250)  # 8-bit alpha
SEED = 3_000_003  # never drawn in training


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=384, help="side of the images in pixels (default: 384)")
    parser.add_argument(
        "--cells", type=int, nargs="+", default=[1, 8], help="side of the mask's cells in pixels (default: 1 8)"
    )
    parser.add_argument("--widths", nargs="+", default=["auto", "4", "8", "16", "32"], metavar="auto|PIXELS")
    parser.add_argument("--no-matting", action="store_true", help="omit the mattes and their SAD")
    options = parser.parse_args(arguments)
    scenes = EightBit(SyntheticMatting(size=options.size, samples_per_epoch=options.images, seed=SEED))
    samples = [scenes[index] for index in range(options.images)]
    predictor = None if options.no_matting else Predictor(read_system())
    print("| mask's cell | width | soft inside, mean | median | band | SAD (10^3) |\n" + "| --- " * 6 + "|")
    for cell in options.cells:
        masks = [coarse_mask(sample["alpha"], cell) for sample in samples]
        if predictor is not None:
            sad = np.mean([_sad(np.where(mask, 255, 0).astype(np.uint8), one["alpha"]) for mask, one in
                           zip(masks, samples, strict=True)])  # fmt: skip
            print(f"| {cell} | the mask itself | – | – | – | {sad:.2f} |", flush=True)
        for width in options.widths:
            pixels = None if width == "auto" else float(width)
            trimaps = [trimap_from_mask(mask, pixels) for mask in masks]
            inside = [soft_inside(trimap, one["alpha"]) for trimap, one in zip(trimaps, samples, strict=True)]
            band = np.mean([unknown_share(trimap) for trimap in trimaps])
            sad = "–"
            if predictor is not None:
                mattes = [predictor.one({"image": one["image"], "trimap": trimap})["alpha"] for trimap, one in
                          zip(trimaps, samples, strict=True)]  # fmt: skip
                sad = f"{np.mean([_sad(matte, one['alpha']) for matte, one in zip(mattes, samples, strict=True)]):.2f}"
            print(
                f"| {cell} | {width} | {np.mean(inside):.1%} | {np.median(inside):.1%} | {band:.1%} | {sad} |",
                flush=True,
            )


def coarse_mask(alpha: np.ndarray, cell: int) -> np.ndarray:
    """(H, W) boolean: the majority of each cell of `cell` pixels, enlarged without interpolation."""
    height, width = alpha.shape
    small = cv2.resize(alpha, (-(-width // cell), -(-height // cell)), interpolation=cv2.INTER_AREA)
    return np.kron(small > 127, np.ones((cell, cell), bool))[:height, :width]


def soft_inside(trimap: np.ndarray, alpha: np.ndarray) -> float:
    """Share of the pixels with a soft alpha that are unknown; 1 where none is soft."""
    soft = (alpha > SOFT[0]) & (alpha < SOFT[1])
    return float((trimap[soft] == UNKNOWN).mean()) if soft.any() else 1.0


def _sad(matte: np.ndarray, alpha: np.ndarray) -> float:
    return score_image(matte, alpha, None)["sad"] * METRICS["sad"].scale


if __name__ == "__main__":
    run(main)
