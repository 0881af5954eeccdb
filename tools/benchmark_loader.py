"""Benchmark of the training loader: the cost of a sample in this project and in the public recipe, on the same files.

    python tools/benchmark_loader.py [--samples 60] [--files 12] [--root DIM_FOLDER] [--json OUT.json]

Without --root a temporary set is drawn: foregrounds of about 1500 x 1100 (textured JPEGs, mattes of soft blobs and
hairs, JPEG and PNG alternately) and 640 x 480 backgrounds. Time is processor time of one process with one thread.
"ours" has all foregrounds in its cache when the measurement starts, as after the first passes of a training run. "ours,
nothing cached" decodes them for every sample.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # some packages install a `tests` too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import PIL.Image
import torch
from references.public_recipe import public_sample

from data.images.files import images_by_stem
from data.training.decoded_cache import FOLDER_VARIABLE, SETTLED_AFTER
from data.training.dim_dataset import CompositionDataset
from data.training.dim_recipe import DimRecipe, draw_sample
from data.training.workers import init_worker
from runtime.command_line import run
from runtime.files import replacing

WARM_UP = 3  # samples
CACHE_PASSES = 2  # passes over the foregrounds, of another epoch


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault(FOLDER_VARIABLE, f"{folder}/cache")
        root = arguments.root or write_procedural_set(Path(folder), arguments.files)
        times = interleaved_times(root, arguments.samples)
    report = summary(times)
    for line in json.dumps(report, indent=2).splitlines():
        print(line)
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Milliseconds of one core per training sample.")
    parser.add_argument("--samples", type=int, default=60, help="samples per loader")
    parser.add_argument("--files", type=int, default=12, help="foregrounds and backgrounds to draw")
    parser.add_argument("--root", type=Path, help="folder with fg, alpha and bg to use instead")
    parser.add_argument("--json", type=Path, help="file for the report as JSON")
    return parser.parse_args()


def dataset_loader(root: Path, cache: str | None) -> Callable[[int], object]:
    """This project's loader, in a process set up like its workers. A cache is filled first."""
    init_worker(0)
    dataset = CompositionDataset(root, cache=cache)
    if cache is not None:
        for index in range(CACHE_PASSES * len(images_by_stem(root / "fg"))):
            dataset[1, index]
    return dataset.__getitem__


def public_loader(root: Path) -> Callable[[int], object]:
    """The public recipe, with one thread."""
    cv2.setNumThreads(0)
    fgs, alphas, bgs = (list(images_by_stem(root / name).values()) for name in ("fg", "alpha", "bg"))

    def public(index: int):
        rng = np.random.default_rng(index)
        second = int(rng.integers(len(fgs)))
        drawn = draw_sample(DimRecipe(), rng)
        own = index % len(fgs)
        return public_sample(fgs[own], alphas[own], bgs[index % len(bgs)], (fgs[second], alphas[second]), drawn, index)

    return public


LOADERS = {
    "ours": partial(dataset_loader, cache="auto"),
    "ours, nothing cached": partial(dataset_loader, cache=None),
    "public": public_loader,
}
_loader: Callable[[int], object]  # loader of a measuring process


def _start(make: Callable[[Path], Callable[[int], object]], root: Path) -> None:
    global _loader
    _loader = make(root)


def _seconds(index: int) -> float:
    start = time.process_time()
    _loader(index)
    return time.process_time() - start


def interleaved_times(root: Path, samples: int) -> dict[str, list[float]]:
    """Processor seconds of each sample. Each loader is in a separate process, and they alternate, so that the load of
    other programs affects both."""
    context = multiprocessing.get_context("spawn")
    times = {name: [] for name in LOADERS}
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(ProcessPoolExecutor(1, context, _start, (make, root)))
            for name, make in LOADERS.items()
        }
        for index in range(-WARM_UP, samples):
            for name, process in processes.items():
                seconds = process.submit(_seconds, index % samples).result()
                if index >= 0:
                    times[name].append(seconds)
    return times


def summary(times: dict[str, list[float]]) -> dict:
    """Mean, median and largest milliseconds of each loader, their ratio, and the machine."""
    report = {
        name: {
            "mean_ms": round(1000 * float(np.mean(t)), 1),
            "median_ms": round(1000 * float(np.median(t)), 1),
            "max_ms": round(1000 * max(t), 1),
            "samples": len(t),
        }
        for name, t in times.items()
    }
    for name, t in times.items():
        report[name]["public_over_it"] = round(float(np.mean(times["public"]) / np.mean(t)), 2)
    report["machine"] = {"processor": processor_name(), "system": platform.platform()}
    report["versions"] = {
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "torch": torch.__version__,
    }
    return report


def processor_name() -> str:
    """Name of the processor if the system reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def write_procedural_set(root: Path, count: int) -> Path:
    """Draw `count` foregrounds with mattes, around 1500 x 1100 in either orientation, and as many backgrounds."""
    rng = np.random.default_rng(0)
    for name in ("fg", "alpha", "bg"):
        (root / name).mkdir()
    for index in range(count):
        size = (int(rng.integers(1000, 1200)), int(rng.integers(1400, 1600)))
        size = size if index % 3 else size[::-1]
        alpha_suffix = "png" if index % 2 else "jpg"
        write(root / "fg" / f"{index:03}.jpg", texture(rng, size))
        write(root / "alpha" / f"{index:03}.{alpha_suffix}", matte(rng, size))
        write(root / "bg" / f"{index:03}.jpg", texture(rng, (480, 640)))
    time.sleep(SETTLED_AFTER)  # recently changed files are not cached
    return root


def texture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Smooth coloured clouds of several scales with fine grain, (H, W, 3) uint8."""
    image = rng.normal(0, 6, (*size, 3)).astype(np.float32) + 128
    for cells in (4, 12, 40, 120):
        clouds = rng.normal(0, 160 / np.sqrt(cells), (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(clouds, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


def matte(rng: np.random.Generator, size: tuple[int, int], hairs: int = 200) -> np.ndarray:
    """A soft-edged blob around the middle with hairs leaving it, (H, W) uint8."""
    height, width = size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    lumps = cv2.resize(rng.normal(0, 0.5, (6, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    inside = 0.6 - np.hypot(x, y) + 0.3 * lumps
    alpha = np.clip(inside * rng.uniform(10, 60) + 0.5, 0, 1)
    strands = np.zeros(size, np.uint8)
    for angle in rng.uniform(0, 2 * np.pi, hairs):
        reach = np.cumsum(rng.normal(0.02, 0.01, 40)) + 0.3
        bend = angle + np.cumsum(rng.normal(0, 0.02, 40))
        points = np.stack([width * (1 + reach * np.cos(bend)) / 2, height * (1 + reach * np.sin(bend)) / 2], 1)
        cv2.polylines(strands, [np.int32(points * 16)], False, 255, 1, cv2.LINE_AA, shift=4)
    return (np.maximum(alpha, strands / np.float32(255)) * 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    PIL.Image.fromarray(image).save(path, quality=92)


if __name__ == "__main__":
    run(main)
