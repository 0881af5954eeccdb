"""Benchmark of closed-form matting and PyMatting's: SAD, time and peak memory on the same images, as Markdown.

    python tools/benchmark_closed_form.py [--sizes 256 384 800] [--count 20] [--large 2448x3264]
    python tools/benchmark_closed_form.py --photographs FOLDER [--trimaps trimap trimap2]

The images are procedural (data/synthetic), as 8-bit arrays like those of files, whole scenes of `--sizes` pixels; or
photographs from the folders `image`, `alpha` and those of `--trimaps`. The two methods alternate on each image. Times
are processor times, which other programs hardly change, and their ratio is that of the sums. Large images are solved
once in a separate process, which reports its peak memory above that before the call (libraries, image and trimap). The
tool needs requirements/test.txt.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from data.images.trimap import fuse_with_trimap
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from data.testing.matting_folder import MattingFolder
from metrics import mean_scores, score_image
from modeling.classical.closed_form import closed_form_alpha
from modeling.priors.closed_form_prior import ClosedFormPrior
from runtime.command_line import run
from runtime.memory import peak_gib, resident_gib

SEED = 5  # seed of the procedural images
HEAD = "| images | method | SAD | MSE (10^-3) | Grad | Conn | CPU s an image | SAD ratio | time ratio |"
LARGE_HEAD = "| large image | unknown | method | SAD | CPU s | GiB above libraries | time ratio | memory ratio |"


def main() -> None:
    """Print the tables."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    if options.measure:
        measure(*options.measure)
        return
    from pymatting import __version__ as pymatting_version

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, PyMatting {pymatting_version}"
    print(f"{versions}, {options.threads} threads of {os.cpu_count()} cores\n\n{HEAD}\n|{' --- |' * HEAD.count(' |')}")
    if options.photographs:
        for trimaps in options.trimaps:
            folders = (options.photographs / name for name in ("image", trimaps, "alpha"))
            print_set(f"photographs, {trimaps}", MattingFolder(*folders))
        return
    for size in options.sizes:
        samples = EightBit(SyntheticMatting(size=size, samples_per_epoch=options.count, seed=SEED))
        print_set(f"{options.count} procedural, {size} x {size}", samples)
    if options.large:
        print(f"\n{LARGE_HEAD}\n|{' --- |' * LARGE_HEAD.count(' |')}")
        for index in range(options.large_count):
            print_large(*(int(side) for side in options.large.split("x")), index)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 384, 800], help="sides of procedural images")
    parser.add_argument("--count", type=int, default=20, help="procedural images of each size")
    parser.add_argument("--large", default="2448x3264", help="height x width of large images, or '' for none")
    parser.add_argument("--large-count", type=int, default=1, help="large images")
    parser.add_argument("--photographs", type=Path, help="folder of image, alpha and trimap folders, used instead")
    parser.add_argument("--trimaps", nargs="+", default=["trimap"], help="trimap folders of the photographs")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch; PyMatting's solver has one")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # method, sample file, alpha file
    return parser.parse_args()


def pymatting_alpha(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """(H, W, 3) and (H, W) uint8 -> (H, W) alpha in [0, 1]."""
    threads = torch.get_num_threads()
    from pymatting import estimate_alpha_cf

    torch.set_num_threads(threads)  # importing PyMatting sets it to the number of cores
    return estimate_alpha_cf(image / 255.0, levels_of(trimap))


def our_alpha(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    return closed_form_alpha(*as_tensors(image, trimap))[0, 0].numpy()


def prior_alpha(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    return ClosedFormPrior()(*as_tensors(image, trimap))[0, 0].numpy()


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "PyMatting": pymatting_alpha,
    "ours": our_alpha,
    "ours, half the size": prior_alpha,
}


def levels_of(trimap: np.ndarray) -> np.ndarray:
    """uint8 of 0, 128 and 255 -> float64 of 0, 0.5 and 1."""
    return np.select([trimap == 0, trimap == 255], [0.0, 1.0], 0.5)


def as_tensors(image: np.ndarray, trimap: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255,
        torch.from_numpy(levels_of(trimap)).float()[None, None],
    )


def print_set(title: str, samples: Sequence[dict]) -> None:
    """Print a row of means for each method."""
    scores: dict[str, list] = {name: [] for name in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    warm_up(METHODS.values())
    for index in range(len(samples)):
        sample = samples[index]
        for name, method in METHODS.items():
            started = time.process_time()
            alpha = method(sample["image"], sample["trimap"])
            seconds[name] += time.process_time() - started
            scores[name].append(score(alpha, sample))
    means = {name: mean_scores(each) for name, each in scores.items()}
    for name, mean in means.items():
        columns = [f"{mean['sad']:.3f}", f"{mean['mse'] * 1e3:.2f}", f"{mean['grad']:.3f}", f"{mean['conn']:.3f}"]
        ratios = mean["sad"] / means["PyMatting"]["sad"], seconds[name] / seconds["PyMatting"]
        columns += [f"{seconds[name] / len(samples):.2f}", *(f"{ratio:.2f}" for ratio in ratios)]
        print(f"| {title} | {name} | {' | '.join(columns)} |", flush=True)


def warm_up(methods: Iterable[Callable]) -> None:
    """Solve a small image, because the first call imports and compiles."""
    trimap = np.repeat(np.repeat(np.array([[0, 128, 255]], np.uint8), 20, axis=1), 60, axis=0)
    for method in methods:
        method(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8), trimap)


def score(alpha: np.ndarray, sample: dict) -> dict[str, float]:
    pred_alpha = fuse_with_trimap(np.rint(alpha * 255).astype(np.uint8), sample["trimap"])
    return score_image(pred_alpha, sample["alpha"], sample["trimap"])


def print_large(height: int, width: int, index: int) -> None:
    """Print a row for each method on one image, each measured in a separate process."""
    erosion = (max(1, height // 40), max(2, height // 30))  # for bands as wide as those of smaller images
    scene = SyntheticMatting(size=(height, width), samples_per_epoch=index + 1, seed=SEED, trimap_erosion=erosion)
    sample = EightBit(scene)[index]
    share = (sample["trimap"] == 128).mean()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "sample.npz", Path(folder) / "alpha.npy"
        np.savez(source, image=sample["image"], trimap=sample["trimap"])
        for name in METHODS:
            command = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
            done = subprocess.run(
                [*command, "--measure", name, str(source), str(target)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{name} failed on {height} x {width}, {share:.0%} unknown: {done.stderr.splitlines()[-1]}")
            rows[name] = json.loads(done.stdout) | score(np.load(target), sample)
    for name, row in rows.items():
        ratios = (row[key] / rows["PyMatting"][key] for key in ("seconds", "gib"))
        columns = [f"{row['sad']:.2f}", f"{row['seconds']:.1f}", f"{row['gib']:.2f}", *(f"{x:.3f}" for x in ratios)]
        print(f"| {height} x {width}, {index} | {share:.0%} | {name} | {' | '.join(columns)} |", flush=True)


def measure(name: str, source: str, target: str) -> None:
    """Solve one image, save alpha and print seconds and GiB."""
    with np.load(source) as arrays:
        image, trimap = arrays["image"], arrays["trimap"]
    warm_up([METHODS[name]])
    before, started = resident_gib(), time.process_time()
    alpha = METHODS[name](image, trimap)
    seconds = time.process_time() - started
    np.save(target, alpha)
    print(json.dumps({"seconds": seconds, "gib": peak_gib() - before}))


if __name__ == "__main__":
    run(main)
