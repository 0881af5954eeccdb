"""Benchmark of inference modes, views and precisions: their effect on scores, time and memory.

    python tools/benchmark_modes.py --config-file configs/ViTMatte_demo.py --checkpoint output/demo/run/model_final.pth

The images are procedural and not used in any training, of 4K size for the modes and smaller for the others, and are
scored in the unknown region with the metrics of evaluation.py. Each mode runs in a separate process, whose peak
resident memory is reported, including libraries and weights. Time is that of prediction alone, summed over the images.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from data.images.trimap_tensors import tensor_to_trimap
from data.synthetic import SyntheticMatting
from engine.config import build, load_config
from engine.inference import Predictor
from engine.inference.predict import Plan
from metrics import mean_scores, score_image
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.memory import peak_gib

SEED = 3_000_003  # not used by training or demo
MODES = {
    "whole": Plan("whole"),
    "encoder at 1/2": Plan("reduced", scale=2),
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
          f"torch {torch.__version__}; {Path(options.config_file).stem}")  # fmt: skip
    report(options, "mode", list(MODES), f"{options.count} images of {options.width} x {options.height}")
    side = options.views_side
    for what, choices in (("views", VIEWS), ("precision", PRECISIONS)):
        report(options, what, list(choices), f"{options.views_count} images of {side} x {side}, as a whole")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--count", type=int, default=6, help="images for the modes (default: 6)")
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--views-count", type=int, default=24, help="images for views and precision (default: 24)")
    parser.add_argument("--views-side", type=int, default=512)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the choice that a process measures
    return parser.parse_args()


def report(options: argparse.Namespace, what: str, choices: list[str], images: str) -> None:
    """Print a table with a row for each choice: SAD and its ratio to the first, and the other figures."""
    print(f"\n{images}\n{what:16}      SAD   ratio  MSE (10^-3)   seconds   peak GiB")
    first = None
    for choice in choices:
        command = [sys.executable, *sys.argv, "--measure", f"{what}:{choice}"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        first = first or result["sad"]
        print(f"{choice:16} {result['sad']:8.3f} {result['sad'] / first:7.3f} {result['mse'] * 1e3:12.3f} "
              f"{result['seconds']:9.1f} {result['peak']:10.2f}", flush=True)  # fmt: skip


def measure(options: argparse.Namespace, what: str, choice: str) -> dict[str, float]:
    """Score one choice over its images: mean scores, seconds, and the peak of this process in GiB."""
    config = load_config(options.config_file, ["train.device=cpu"])
    model = build(config.model).eval()
    load_model(model, read_checkpoint(options.checkpoint), options.checkpoint)
    is_mode = what == "mode"
    predictor = Predictor(model, mode="whole", **({} if is_mode else {what: choice}))
    plan = MODES[choice] if is_mode else MODES["whole"]
    size, count = (
        ((options.height, options.width), options.count) if is_mode else (options.views_side, options.views_count)
    )
    scores, seconds = [], 0.0
    for sample in map(SyntheticMatting(size=size, seed=SEED).__getitem__, range(count)):
        image = (sample["image"] * 255).round().byte().permute(1, 2, 0).numpy()
        alpha, trimap = (sample["alpha"][0] * 255).round().byte().numpy(), tensor_to_trimap(sample["trimap"])
        started = time.perf_counter()
        pred_alpha = predictor([{"image": image, "trimap": trimap}], plan)[0]["alpha"]
        seconds += time.perf_counter() - started
        scores.append(score_image(pred_alpha, alpha, trimap, ["sad", "mse"]))
    return mean_scores(scores, metrics=["sad", "mse"]) | {"seconds": seconds, "peak": peak_gib()}


if __name__ == "__main__":
    main()
