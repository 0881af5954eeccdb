"""Benchmark of inference modes, views and precisions: their effect on scores, time and memory.

    python tools/benchmark_modes.py --config-file configs/ViTMatte_demo.py --checkpoint output/demo/run/model_final.pth
    python tools/benchmark_modes.py --library DIR --sides 1400 2000 2800 --modes 'whole,encoder at 1/2'

The images are procedural and not used in any training, of 4K size for the modes and smaller for the others, and are
scored in the unknown region with the metrics of evaluation.py. With --library, the modes are compared on squares with a
rendered object instead (DIR/fg and DIR/alpha of tools/render_foregrounds.py, at least as large) over a photograph of
scikit-image, with sensor noise. The unknown band reaches a seventieth of the side beyond the soft pixels.

Each mode runs in a separate process, whose peak resident memory is reported, including libraries and weights. Time is
the processor time of prediction alone, summed over the images. Without --config-file and --checkpoint, the model is the
one in the box.
"""

import argparse
import itertools
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import skimage.data
import torch

from data.images.files import images_by_stem, read_gray, read_rgb
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from engine.config import load_config
from engine.inference import Predictor
from engine.inference.predict import Plan
from engine.trained import trained_model
from metrics import mean_scores, score_image
from modeling.weights.system_file import read_system
from runtime.memory import peak_gib

SEED = 3_000_003  # not used by training or demo
REACH = 1 / 70  # of the unknown band beyond soft pixels, as a share of the side
NOISE = 3  # standard deviation of the sensor noise in levels
MODES = {
    "whole": Plan("whole"),
    "encoder at 1/2": Plan("reduced", scale=2),
    "encoder at 1/3": Plan("reduced", scale=3),
    "encoder at 1/4": Plan("reduced", scale=4),
    "tiles of 2048": Plan("tiles", tile=2048),
    "tiles of 1024": Plan("tiles", tile=1024),
    "tiles of 512": Plan("tiles", tile=512),
}
VIEWS = ("none", "flip", "flip+scale")
PRECISIONS = ("fp32", "bf16", "fp16")


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        print(json.dumps(measure(options, *options.measure.split(":"))))
        return
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
          f"torch {torch.__version__}; {options.config_file or 'the model in the box'}")  # fmt: skip
    if options.library is not None:
        for side in options.sides:
            options.width = options.height = side
            count = min(options.count, len(images_by_stem(options.library / "alpha")))
            report(options, "mode", options.modes, f"{count} images of {side} x {side}")
        return
    report(options, "mode", options.modes, f"{options.count} images of {options.width} x {options.height}")
    side = options.views_side
    for what, choices in (("views", VIEWS), ("precision", PRECISIONS)):
        report(options, what, list(choices), f"{options.views_count} images of {side} x {side}, as a whole")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file")
    parser.add_argument("--checkpoint")
    parser.add_argument("--library", type=Path, metavar="DIR", help="folder with fg and alpha of large objects")
    parser.add_argument("--sides", type=int, nargs="+", default=[2800], help="sides with --library (default: 2800)")
    parser.add_argument("--modes", type=mode_names, default=list(MODES), help=f"of {','.join(MODES)} (default: all)")
    parser.add_argument("--count", type=int, default=6, help="images for the modes (default: 6)")
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--views-count", type=int, default=24, help="images for views and precision (default: 24)")
    parser.add_argument("--views-side", type=int, default=512)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the choice that a process measures
    options = parser.parse_args()
    if (options.config_file is None) != (options.checkpoint is None):
        parser.error("give both --config-file and --checkpoint, or neither for the model in the box")
    return options


def mode_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in MODES]:
        raise argparse.ArgumentTypeError(f"no mode {unknown[0]}; there are {', '.join(MODES)}")
    return names


def report(options: argparse.Namespace, what: str, choices: list[str], images: str) -> None:
    """Print a table with a row for each choice: SAD and its ratio to the first, and the other figures."""
    print(f"\n{images}\n{what:16}      SAD   ratio  MSE (10^-3)   seconds   peak GiB")
    first = None
    for choice in choices:
        size = ["--width", str(options.width), "--height", str(options.height)]
        command = [sys.executable, *sys.argv, *size, "--measure", f"{what}:{choice}"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        first = first or result["sad"]
        print(f"{choice:16} {result['sad']:8.3f} {result['sad'] / first:7.3f} {result['mse'] * 1e3:12.3f} "
              f"{result['seconds']:9.1f} {result['peak']:10.2f}", flush=True)  # fmt: skip


def measure(options: argparse.Namespace, what: str, choice: str) -> dict[str, float]:
    """Score one choice over its images: mean scores, seconds, and the peak of this process in GiB."""
    if options.config_file is None:
        model = read_system()
    else:
        config = load_config(options.config_file, ["train.device=cpu"])
        model = trained_model(config, options.checkpoint, options.config_file).eval()
    is_mode = what == "mode"
    predictor = Predictor(model, mode="whole", **({} if is_mode else {what: choice}))
    plan = MODES[choice] if is_mode else MODES["whole"]
    size, count = (
        ((options.height, options.width), options.count) if is_mode else (options.views_side, options.views_count)
    )
    procedural = EightBit(SyntheticMatting(size=size, seed=SEED))
    samples = map(procedural.__getitem__, range(count))
    if options.library is not None:
        samples = itertools.islice(composites(options.library, options.width), count)
    scores, seconds = [], 0.0
    for sample in samples:
        started = time.process_time()
        pred_alpha = predictor([sample], plan)[0]["alpha"]
        seconds += time.process_time() - started
        scores.append(score_image(pred_alpha, sample["alpha"], sample["trimap"], ["sad", "mse"]))
    return mean_scores(scores, metrics=["sad", "mse"]) | {"seconds": seconds, "peak": peak_gib()}


def composites(library: Path, side: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield squares with an object of a library: "image" (H, W, 3), "alpha" and "trimap" (H, W), uint8."""
    names = ("coffee", "rocket", "astronaut", "immunohistochemistry", "chelsea")
    photographs = [getattr(skimage.data, name)() for name in names]
    rng = np.random.default_rng(SEED)
    reach = max(1, round(side * REACH))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    for index, (name, path) in enumerate(images_by_stem(library / "alpha").items()):
        weight = read_gray(path)[..., None] / np.float32(255)
        layers = np.dstack([read_rgb(library / "fg" / f"{name}{path.suffix}") * weight, weight])
        layers = cv2.resize(layers, (side, side), interpolation=cv2.INTER_AREA)
        background = cv2.resize(photographs[index % len(photographs)], (side, side), interpolation=cv2.INTER_CUBIC)
        image = layers[..., :3] + background * (1 - layers[..., 3:]) + rng.normal(0, NOISE, (side, side, 3))
        alpha = np.rint(layers[..., 3] * 255).astype(np.uint8)
        near = cv2.dilate((alpha > 0).astype(np.uint8), disc) > cv2.erode((alpha == 255).astype(np.uint8), disc)
        trimap = np.where(near, UNKNOWN, np.where(alpha == 255, FOREGROUND, BACKGROUND)).astype(np.uint8)
        yield {"image": np.rint(image.clip(0, 255)).astype(np.uint8), "alpha": alpha, "trimap": trimap}


if __name__ == "__main__":
    main()
