"""Benchmark of DiffMatte's sampling, the one-shot ViTMatte-S and a plain sampler: time and memory in one run.

    python tools/benchmark_diffmatte.py [--sizes 1024] [--share 20] [--steps 10] [--repeats 3]

"one-shot" is the original ViTMatte-S. "ours" is DiffMatte on the same ViT-S, which uses the trimap's known values in
every step and runs its decoder where alpha is unknown. "exact" is DiffMatte sampled like the release with this
project's decoder, and "plain" the same with the network's modules, the whole decoder in every step. Weights are random.
Every measurement is in a separate process, and the variants alternate. Times are for one prediction after a warm-up,
from a tensor in memory to alpha, in wall clock and processor seconds.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from engine.config import build, load_config
from modeling.decoder.diffusion_unet import DiffusionUNet
from runtime.memory import keep_freed_memory, peak_gib
from tools.benchmark_inference import random_image, trimap_of

MODELS = ("one-shot", "ours", "exact", "plain")
ROW = "{:>6} {:>9}  {:>8} {:>8} {:>7} {:>7}"


def main() -> None:
    options = parse_arguments()
    if options.measure:
        measure(options.measure, options.sizes[0], options.share, options.steps)
        return
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}")
    print(f"{options.share} % unknown, ddim{options.steps}; least of {options.repeats}")
    print(ROW.format("side", "model", "seconds", "CPU s", "ratio", "GiB"))
    for side in options.sizes:
        runs = {name: [] for name in options.models}
        for _ in range(options.repeats):
            for name in options.models:
                runs[name].append(run(name, side, options))
        base = statistics.median(each["seconds"] for each in runs[options.models[0]])
        for name, each in runs.items():
            seconds, cpu = (min(one[key] for one in each) for key in ("seconds", "cpu"))
            ratio = statistics.median(one["seconds"] for one in each) / base
            peak = max(one["peak"] for one in each)
            print(ROW.format(side, name, f"{seconds:.2f}", f"{cpu:.2f}", f"{ratio:.2f}", f"{peak:.2f}"), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024], help="sides of square images")
    parser.add_argument("--share", type=int, default=20, help="unknown pixels, percent")
    parser.add_argument("--steps", type=int, default=10, help="steps of DDIM")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="models; ratios are to the first")
    parser.add_argument("--measure", choices=MODELS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(name: str, side: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure one model in a separate process."""
    command = [sys.executable, __file__, "--measure", name, "--sizes", str(side), "--share", str(options.share),
               "--steps", str(options.steps)]  # fmt: skip
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(name: str, side: int, share: int, steps: int) -> None:
    """Predict twice, and print seconds and processor seconds of the second prediction, and the peak in GiB."""
    torch.manual_seed(0)
    config = "ViTMatte_S_dino" if name == "one-shot" else "DiffMatte_ViTS"
    model = build(load_config(str(Path(__file__).resolve().parents[1] / "configs" / f"{config}.py")).model).eval()
    if name != "one-shot":
        model.set_sampling(f"ddim{steps}", clamp_known="always" if name == "ours" else "never")
    if name == "plain":
        model.decoder.prepared = lambda *inputs: plain(model.decoder, *inputs)
    keep_freed_memory()  # as in inference.py
    image, trimap = random_image(side), trimap_of(side, share)
    with torch.inference_mode():
        model.predict(image, trimap)
        started, cpu = time.perf_counter(), processor_seconds()
        model.predict(image, trimap)
    seconds = {"seconds": time.perf_counter() - started, "cpu": processor_seconds() - cpu}
    print(json.dumps(seconds | {"peak": peak_gib()}))


def plain(decoder: DiffusionUNet, features: torch.Tensor, guide: torch.Tensor, *_: object):
    """The decoder's `forward` in every step."""
    return lambda x_t, time: decoder(features, guide, x_t, x_t.new_full((len(x_t),), time))


def processor_seconds() -> float:
    """Processor seconds of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
