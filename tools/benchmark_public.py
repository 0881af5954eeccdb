"""Benchmark of ViT-S inference with the public DINOv3-ViTMatte network: time and peak memory in one run.

    python tools/benchmark_public.py [--size 1024] [--repeats 5] [--memory-size 2048]

For time, both models alternate, A B A B, and the medians and the median of the pairwise ratios count. For memory, each
measurement is in a separate process and is its peak resident memory, including model and libraries.
"""

import argparse
import multiprocessing
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # some packages install a `tests` too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from references.public_model import PublicMatting

from modeling.backbone import ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte
from runtime.memory import peak_gib

HYBRID = {"windowed": [0, 1, 3, 4, 6, 7, 9, 10], "residual": [2, 5, 8, 11]}
AS_PUBLISHED = {"windowed": [1, 4, 7, 10], "residual": [1, 4, 7, 10]}


def ours(windowed: list[int], residual: list[int]) -> torch.nn.Module:
    model = ViTMatte(
        backbone=ViT(window_block_indexes=windowed, residual_block_indexes=residual),
        decoder=DetailCapture(),
        criterion=MattingCriterion(),
        pixel_mean=[0.485, 0.456, 0.406],
        pixel_std=[0.229, 0.224, 0.225],
    )
    return model.eval()


def public(windowed: list[int], residual: list[int]) -> torch.nn.Module:
    return PublicMatting(384, 12, 6, windowed, residual).eval()


def predict(model: torch.nn.Module, size: int) -> float:
    """Run once on a random image of `size` x `size` and return the seconds."""
    image, trimap = torch.rand(1, 3, size, size), torch.randint(0, 3, (1, 1, size, size)) / 2
    with torch.inference_mode():
        started = time.perf_counter()
        if isinstance(model, ViTMatte):
            model({"image": image, "trimap": trimap})
        else:
            model(torch.cat([image, trimap], dim=1))
        return time.perf_counter() - started


def compare_times(pattern: dict[str, list[int]], size: int, repeats: int) -> tuple[float, float, float]:
    """Median seconds of ours and of the public network, and the median of the pairwise ratios."""
    models = ours(**pattern), public(**pattern)
    for model in models:
        predict(model, size)  # warm-up
    pairs = [tuple(predict(model, size) for model in models) for _ in range(repeats)]
    ours_seconds, public_seconds = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours_seconds, public_seconds, statistics.median(a / b for a, b in pairs)


def peak_memory(build, pattern: dict[str, list[int]], size: int) -> float:
    """Peak resident GiB of a new process that builds a model and predicts once."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_predict_and_measure, (build, pattern, size))


def _predict_and_measure(build, pattern: dict[str, list[int]], size: int) -> float:
    predict(build(**pattern), size)
    return peak_gib()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-size", type=int, default=2048)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, float32"
    )
    for label, pattern in (("windows as ViTMatte", HYBRID), ("windows as published", AS_PUBLISHED)):
        mine, theirs, ratio = compare_times(pattern, arguments.size, arguments.repeats)
        print(f"{arguments.size}, {label}: ours {mine:.2f} s, public {theirs:.2f} s, ratio {ratio:.2f}")
    for label, build in (("ours", ours), ("public", public)):
        peak = peak_memory(build, HYBRID, arguments.memory_size)
        print(f"{arguments.memory_size}, windows as ViTMatte, {label}: peak {peak:.2f} GiB")


if __name__ == "__main__":
    main()
