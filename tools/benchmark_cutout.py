"""Benchmark of cut-outs: fringe and time with and without estimated colours, for ours and PyMatting's, as Markdown.

    python tools/benchmark_cutout.py [--sizes 256 700] [--count 16] [--predicted] [--megapixels 12]

The images are procedural 8-bit images (data/synthetic), whose true foregrounds are known. The fringe
(metrics/fringe.py) is scored in the unknown region with the true alpha and, with --predicted, also with the alpha of
the model in the box. The methods are the picture's own colours, our estimate, and PyMatting's multi-level method.

To measure time, a procedural picture is enlarged and given grain like that of a photograph. In a second picture alpha
is soft everywhere, which is the worst case. The methods alternate, and the medians of --repeats runs are printed.
PyMatting needs requirements/test.txt.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch

from data.images.foreground_colours import estimate_foreground
from data.images.trimap_tensors import tensor_to_trimap
from data.images.writing import write_picture
from data.synthetic import SyntheticMatting
from metrics import fringe
from runtime.command_line import run

SEED = 21  # of the procedural images
GRAIN = 3  # gray levels, standard deviation
HEAD = "| images | alpha | colours | fringe, levels of 255 | to the picture's | to PyMatting's |"
TIME_HEAD = "| picture | soft | step | CPU s | wall s | CPU time to PyMatting's |"


def main() -> None:
    """Print the tables."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    import pymatting

    os_load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, OpenCV {cv2.__version__}, PyMatting "
        f"{pymatting.__version__}, {options.threads} threads of {os.cpu_count()} cores, load {os_load}\n"
    )
    torch.set_num_threads(options.threads)  # importing PyMatting sets it to the number of cores
    print(f"{HEAD}\n|{' --- |' * (HEAD.count('|') - 1)}")
    for size in options.sizes:
        print_fringe(size, options.count, options.predicted)
    if options.megapixels:
        print(f"\n{TIME_HEAD}\n|{' --- |' * (TIME_HEAD.count('|') - 1)}")
        print_times(options.megapixels, options.repeats)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 700], help="sides of procedural images")
    parser.add_argument("--count", type=int, default=16, help="procedural images of each size")
    parser.add_argument("--predicted", action="store_true", help="score mattes of the model in the box too")
    parser.add_argument("--megapixels", type=float, default=12, help="size of the picture that is timed; 0 for none")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs of each time")
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of OpenCV and PyTorch; PyMatting's method has one"
    )
    return parser.parse_args()


def own_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours of the picture, which still contain the old background."""
    return image


def pymatting_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(H, W, 3) gray levels as float64, by PyMatting's multi-level method."""
    from pymatting import estimate_foreground_ml

    return estimate_foreground_ml(image / 255, alpha / 255) * 255


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "the picture's own": own_colours,
    "PyMatting": pymatting_colours,
    "ours": estimate_foreground,
}


def print_fringe(size: int, count: int, predicted: bool) -> None:
    """Print a row of means for each alpha and method."""
    dataset = SyntheticMatting(size=size, samples_per_epoch=count, seed=SEED)
    predict = box() if predicted else None
    scores: dict[str, dict[str, list[float]]] = {}
    for index in range(count):
        image, foreground, alpha, trimap = levels_of(dataset[index])
        mattes = {"true": alpha} | ({"the box's": predict(image, trimap)} if predict else {})
        for whose, matte in mattes.items():
            for name, method in METHODS.items():
                found = fringe(method(image, matte), foreground, alpha, trimap, matte)
                scores.setdefault(whose, {}).setdefault(name, []).append(found)
    for whose, by_method in scores.items():
        means = {name: statistics.fmean(values) for name, values in by_method.items()}
        for name, mean in means.items():
            ratios = (mean / means[other] for other in ("the picture's own", "PyMatting"))
            columns = [f"{count} of {size} x {size}", whose, name, f"{mean:.2f}", *(f"{ratio:.2f}" for ratio in ratios)]
            print(f"| {' | '.join(columns)} |", flush=True)


def box() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The shipped model, from an image and its trimap to alpha (H, W) uint8."""
    from engine.inference import Matting

    matting = Matting(device="cpu")
    return lambda image, trimap: np.rint(matting.predict(image, trimap) * 255).astype(np.uint8)


def levels_of(sample: dict) -> tuple[np.ndarray, ...]:
    """Image and foreground (H, W, 3), alpha and trimap (H, W) of a procedural sample, uint8."""
    image, foreground, alpha = (
        np.rint(sample[name].numpy().transpose(1, 2, 0) * 255).astype(np.uint8) for name in ("image", "fg", "alpha")
    )
    return image, foreground, alpha[..., 0], tensor_to_trimap(sample["trimap"])


def print_times(megapixels: float, repeats: int) -> None:
    """Print a row for each picture and step of a cut-out."""
    for title, (image, alpha) in timed_pictures(megapixels).items():
        pymatting_colours(image[:64, :64], alpha[:64, :64])  # which compiles it
        medians = medians_of(image, alpha, repeats)
        share = ((alpha > 0) & (alpha < 255)).mean()
        for name, (cpu, wall) in medians.items():
            ratio = f"{cpu / medians['PyMatting'][0]:.2f}" if name in METHODS else ""
            print(f"| {title} | {share:.0%} | {name} | {cpu:.2f} | {wall:.2f} | {ratio} |", flush=True)


def medians_of(image: np.ndarray, alpha: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Processor and wall seconds of each step, which alternate."""
    rgba = np.dstack([estimate_foreground(image, alpha), alpha])
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            **{name: partial(METHODS[name], image, alpha) for name in ("PyMatting", "ours")},
            **{f"writing {end}": partial(write_picture, Path(folder) / f"a{end}", rgba) for end in (".png", ".tif")},
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
        for _ in range(repeats):
            for name, step in steps.items():
                started = time.process_time(), time.perf_counter()
                step()
                taken[name].append((time.process_time() - started[0], time.perf_counter() - started[1]))
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}


def timed_pictures(megapixels: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image and alpha by title, 4 : 3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    size = (round(height * 4 / 3), height)
    image, _, alpha, _ = levels_of(SyntheticMatting(size=(750, 1000), samples_per_epoch=1, seed=SEED)[0])
    image, alpha = (cv2.resize(array, size, interpolation=cv2.INTER_CUBIC) for array in (image, alpha))
    grain = np.random.default_rng(SEED).normal(0, GRAIN, (*alpha.shape, 3)).astype(np.float32)
    image = np.rint(image + grain).clip(0, 255).astype(np.uint8)
    title = f"{size[0]} x {size[1]}"
    return {title: (image, alpha), f"{title}, soft everywhere": (image, alpha.clip(20, 235))}


if __name__ == "__main__":
    run(main)
