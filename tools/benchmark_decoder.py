"""Benchmark of sparse and dense decoding: time and memory by the unknown share of the image.

    python tools/benchmark_decoder.py [--sizes 1024 2048] [--threads 1] [--steps 10]

The decoder is that of ViTMatte-S with random weights, on random features and images. Unknown regions are bands around
blobs, like dilated outlines. Every repeat times each case and the dense decoder; the table has medians and the medians
of the ratios. Memory is the increase of the peak resident memory of a separate process while it decodes.

With --steps the decoder is DiffMatte's on ViT-S features. It is prepared for an image and called this many times, and
compared with as many calls of the whole decoder.
"""

import argparse
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from torch import Tensor

from modeling.decoder import DetailCapture
from modeling.decoder.diffusion_unet import DiffusionUNet
from runtime.memory import peak_gib, resident_gib

SHARES = (0.1, 0.2, 0.4, 1.0)
DENSE = None


def draw_blobs(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Three wavy blobs, (H, W) uint8 of 0 and 1."""
    rng = np.random.default_rng(seed)
    height, width = size
    blobs = np.zeros(size, np.uint8)
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    for _ in range(3):
        centre = rng.uniform(0.3, 0.7, 2) * (width, height)
        phases = rng.uniform(0, 2 * np.pi, 2)
        waves = 1 + 0.25 * np.sin(3 * angle + phases[0]) + 0.12 * np.sin(7 * angle + phases[1])
        radius = rng.uniform(0.12, 0.25) * min(size) * waves
        outline = centre + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        cv2.fillPoly(blobs, [outline.astype(np.int32)], 1)
    return blobs


def band_around(blobs: np.ndarray, share: float) -> Tensor:
    """The `share` of pixels closest to the outlines of blobs (H, W), as (1, 1, H, W) bool."""
    distances = [cv2.distanceTransform(side, cv2.DIST_L2, 5) for side in (blobs, 1 - blobs)]  # one is 0 everywhere
    distance = np.maximum(*distances)
    return torch.from_numpy(distance <= np.quantile(distance, share))[None, None]


def make_case(size: tuple[int, int], share: float | None, steps: int = 0) -> Callable[[], Tensor]:
    """A function that decodes one image with `share` of it unknown: 1 for all tiles, DENSE for the dense decoder."""
    torch.manual_seed(0)
    features = torch.randn(1, 384, size[0] // 16, size[1] // 16).contiguous(memory_format=torch.channels_last)
    unknown = None
    if share is not DENSE:
        unknown = band_around(draw_blobs(size), share) if share < 1 else torch.ones(1, 1, *size, dtype=torch.bool)
    if steps:
        return make_steps(features, torch.randn(1, 7, *size), unknown, steps)
    decoder = DetailCapture().eval()
    images = torch.randn(1, 4, *size)
    return lambda: decoder(features, images, unknown)


def make_steps(features: Tensor, inputs: Tensor, unknown: Tensor | None, steps: int) -> Callable[[], None]:
    """A function that runs steps of DiffMatte's decoder; `inputs` (1, 7, H, W) are the guide and the noisy alpha."""
    decoder = DiffusionUNet().eval()
    guide, x_t = inputs.split([6, 1], dim=1)
    times = torch.linspace(1, 0, steps + 1)[:-1].tolist()

    def run() -> None:
        raw_map = decoder.prepared(features, guide, unknown) if unknown is not None else None
        for time_ in times:
            raw_map(x_t, time_) if raw_map else decoder(features, guide, x_t, torch.tensor([time_]))

    return run


def seconds(case: Callable[[], object]) -> float:
    with torch.inference_mode():
        started = time.perf_counter()
        case()
        return time.perf_counter() - started


def compare_times(size: tuple[int, int], repeats: int, steps: int) -> list[tuple[float, float]]:
    """Median seconds, and median ratio to the dense decoder, for the dense decoder and for each share."""
    cases = [make_case(size, share, steps) for share in (DENSE, *SHARES)]
    for case in cases:
        seconds(case)  # warm-up
    rows = [[seconds(case) for case in cases] for _ in range(repeats)]
    return [
        (statistics.median(column), statistics.median(t / row[0] for t, row in zip(column, rows, strict=True)))
        for column in zip(*rows, strict=True)
    ]


def peak_memory(size: tuple[int, int], share: float | None, threads: int, steps: int) -> float:
    """Increase in MiB of the peak resident memory of a new process by decoding."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_decode_and_measure, (size, share, threads, steps))


def _decode_and_measure(size: tuple[int, int], share: float | None, threads: int, steps: int) -> float:
    torch.set_num_threads(threads)
    case = make_case(size, share, min(steps, 1))
    seconds(make_case((64, 64), share, min(steps, 1)))  # for memory that libraries allocate once
    before = resident_gib()
    seconds(case)
    return (peak_gib() - before) * 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1024", "2048"], help="side, or WIDTHxHEIGHT, divisible by 16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="steps of DiffMatte's decoder; 0 for ViTMatte's")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, float32"
    )
    for name in arguments.sizes:
        width, height = (int(side) for side in (name.split("x") * 2)[:2])
        times = compare_times((height, width), arguments.repeats, arguments.steps)
        for share, (median, ratio) in zip((DENSE, *SHARES), times, strict=True):
            label = "dense" if share is DENSE else f"{share:.0%} unknown"
            memory = peak_memory((height, width), share, arguments.threads, arguments.steps)
            print(f"{name}, {label}: {median:.2f} s, ratio {ratio:.2f}, memory {memory:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
