"""Benchmark of ONNX files and PyTorch with the same weights: size, difference of alpha and speed in one run.

    python tools/benchmark_onnx.py [--configs ViTMatte_S_10ep ViTMatte_S_dino] [--size 512] [--repeats 5]

Weights are random, scaled so that alpha takes all values. The difference is that of the check before a file is written:
at three sizes, over the unknown pixels. Time is for one image with 20 % unknown, with as many threads as PyTorch uses,
as the median of the repeats; all files and PyTorch alternate.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnxruntime
import torch
from torch import nn

from engine.config import build, load_config
from engine.onnx.export import PRECISIONS, export_onnx
from engine.onnx.model import OnnxModel
from tools.benchmark_inference import random_image, randomise, trimap_of

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROW = "{:18} {:10} {:>8} {:>10} {:>10} {:>9} {:>16}"


def main() -> None:
    options = parse_arguments()
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {options.size} x {options.size}"
    )
    print(ROW.format("config", "", "MiB", "largest", "mean", "seconds", "PyTorch / this"))
    for config in options.configs:
        for row in compare(config, options.size, options.repeats):
            print(row, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--configs", nargs="+", default=["ViTMatte_S_10ep", "ViTMatte_S_dino"], help="names of files in configs/"
    )
    parser.add_argument("--size", type=int, default=512, help="side of the timed image")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def compare(config: str, side: int, repeats: int) -> list[str]:
    """A row for PyTorch and for each precision."""
    model = build(load_config(str(CONFIGS / f"{config}.py"), ["train.device=cpu"]).model).eval()
    randomise(model)
    with tempfile.TemporaryDirectory() as folder:
        models, columns = {"PyTorch": model}, {"PyTorch": ("", "", "")}
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.onnx"
            differences = export_onnx(model, path, config=config, checkpoint="random", precision=precision)
            largest, mean = (max(getattr(each, kind) for each in differences) for kind in ("largest", "mean"))
            columns[precision] = (f"{path.stat().st_size / 2**20:.0f}", f"{largest:.1e}", f"{mean:.1e}")
            models[precision] = OnnxModel(path)
        seconds = time_in_turn(models, side, repeats)
    torch_seconds = statistics.median(seconds["PyTorch"])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        ROW.format(config, name, *columns[name], f"{medians[name]:.2f}", f"{torch_seconds / medians[name]:.2f}")
        for name in models
    ]


def time_in_turn(models: dict[str, nn.Module], side: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each model, after a warm-up call."""
    batch = {"image": random_image(side), "trimap": trimap_of(side, 20)}
    seconds = {name: [] for name in models}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, model in models.items():
                started = time.perf_counter()
                model(batch)
                if turn:
                    seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
