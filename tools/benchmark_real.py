"""Benchmark of methods on photographs with true mattes: scores, time, memory and paired differences, as Markdown.

    python tools/benchmark_real.py --data-root DIR [--trimap-dir trimap2] [--methods box,closed-form,knn] [--json FILE]
        [--mattes DIR] [--sheet FILE.jpg]

DIR has image/, trimap/ and alpha/ with files of the same names. "box" is the model in the box, "closed-form" is this
project's closed-form matting; "pymatting", "knn", "lkm" and "random-walk" are PyMatting's (requirements/test.txt).

Scores are those of evaluation.py over the unknown region. Each method runs in a separate process, after a small image
that loads and compiles its parts. Seconds are of the wall clock and of the processor (all threads). Memory is the
growth of the process over all images. Differences are to the first method, with 95 % bootstrap intervals over images.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from PIL import Image

from data.images.files import write_png
from data.images.trimap import UNKNOWN, fuse_with_trimap
from data.testing.matting_folder import MattingFolder
from engine.inference import Predictor
from metrics import METRICS, PAPER_METRICS, compare, mean_scores, score_image
from modeling.meta_arch.base import System
from modeling.meta_arch.closed_form import ClosedForm
from modeling.weights.system_file import read_system
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing
from runtime.memory import peak_gib, resident_gib

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image (H, W, 3), trimap (H, W) uint8 -> alpha (H, W) uint8

PYMATTING = {
    "pymatting": "estimate_alpha_cf", "knn": "estimate_alpha_knn", "lkm": "estimate_alpha_lkm",
    "random-walk": "estimate_alpha_rw",
}  # fmt: skip
METHODS = ("box", "closed-form", *PYMATTING)


def require_known(name: str) -> None:
    """Raise InputError for a method that is not in `METHODS`, or whose package is missing."""
    if name not in METHODS:
        raise InputError(f"--methods: expected some of {', '.join(METHODS)}, got {name!r}")
    if name in PYMATTING and importlib.util.find_spec("pymatting") is None:
        raise InputError(f"--methods {name}: PyMatting is missing; install requirements/test.txt")


def method_of(name: str) -> Method:
    """The method of a name in `METHODS`.

    Raises:
        InputError: see `require_known`.
    """
    require_known(name)
    if name == "box":
        return _predicting(read_system())
    if name == "closed-form":
        return _predicting(ClosedForm().eval())
    import pymatting

    estimate = getattr(pymatting, PYMATTING[name])

    def alpha_of(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        levels = np.select([trimap == UNKNOWN, trimap > UNKNOWN], [0.5, 1.0], 0.0)
        with contextlib.redirect_stdout(sys.stderr):  # keeps its warnings out of the table
            alpha = estimate(image / 255, levels)
        return fuse_with_trimap(np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8), trimap)

    return alpha_of


def _predicting(model: System) -> Method:
    predictor = Predictor(model)
    return lambda image, trimap: predictor.one({"image": image, "trimap": trimap})["alpha"]


class Measured(NamedTuple):
    """Results of a method on all photographs.

    Attributes:
        scores: metric -> value, by the name of the photograph.
        seconds, cpu_seconds: means over the photographs.
        gib: growth of the process's resident memory.
    """

    scores: dict[str, dict[str, float]]
    seconds: float
    cpu_seconds: float
    gib: float


def measure(name: str, photographs: MattingFolder, mattes: Path | None) -> Measured:
    """Run a method on all photographs in this process. Mattes are written to `mattes`/`name`/ if it is given."""
    method = method_of(name)
    small = np.zeros((96, 96), np.uint8)
    small[24:72, 24:72], small[40:56, 40:56] = UNKNOWN, 255
    method(np.repeat(small[..., None], 3, axis=2), small)  # warm-up
    before = resident_gib()
    scores, seconds, cpu_seconds = {}, [], []
    for sample in (photographs[index] for index in range(len(photographs))):
        started, cpu_started = time.perf_counter(), time.process_time()
        alpha = method(sample["image"], sample["trimap"])
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        scores[sample["name"]] = score_image(alpha, sample["alpha"], sample["trimap"])
        if mattes is not None:
            write_png(mattes / name / f"{sample['name']}.png", alpha)
    return Measured(scores, float(np.mean(seconds)), float(np.mean(cpu_seconds)), peak_gib() - before)


def main() -> None:
    options = parse_arguments()
    names = options.methods.split(",")
    for name in names:
        require_known(name)
    root = options.data_root
    photographs = MattingFolder(root / "image", root / options.trimap_dir, root / "alpha")
    results: dict[str, Measured] = {}
    print(header(len(photographs), options.trimap_dir, names[0]))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in names:
            if options.mattes is not None:
                (options.mattes / name).mkdir(parents=True, exist_ok=True)
            results[name] = pool.submit(measure, name, photographs, options.mattes).result()
            print(row(name, results[name], results[names[0]]), flush=True)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps({name: one._asdict() for name, one in results.items()}, indent=1) + "\n")
    if options.sheet:
        write_sheet(options.sheet, photographs, options.mattes, names)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of image/, trimap/ and alpha/")
    parser.add_argument("--trimap-dir", default="trimap", help="name of the folder of trimaps (default: trimap)")
    parser.add_argument("--methods", default="box,closed-form,pymatting", help=f"some of {','.join(METHODS)}")
    parser.add_argument("--json", type=Path, help="file for the scores of every image")
    parser.add_argument("--mattes", type=Path, help="folder for the mattes, with a sub-folder for each method")
    parser.add_argument(
        "--sheet", type=Path, help="picture to write: image, trimap, each method, truth (needs --mattes)"
    )
    options = parser.parse_args()
    if options.sheet and not options.mattes:
        raise InputError("--sheet: expected --mattes too, the folder for the mattes that it shows")
    if options.sheet and options.sheet.suffix.lower() not in (".jpg", ".png"):
        raise InputError(f"--sheet: expected a name ending in .jpg or .png, got {options.sheet}")
    return options


def header(images: int, trimaps: str, baseline: str) -> str:
    titles = [METRICS[name].title for name in PAPER_METRICS]
    cells = [f"{images} photographs, {trimaps}", *titles, "s an image", "processor s", "GiB", f"SAD against {baseline}"]
    return f"| {' | '.join(cells)} |\n" + "| --- " * len(cells) + "|"


def row(name: str, measured: Measured, baseline: Measured) -> str:
    means = mean_scores(measured.scores.values())
    scores = [f"{means[metric] * METRICS[metric].scale:.2f}" for metric in PAPER_METRICS]
    costs = [f"{measured.seconds:.1f}", f"{measured.cpu_seconds:.1f}", f"{measured.gib:.2f}"]
    return f"| {' | '.join([name, *scores, *costs, difference(baseline.scores, measured.scores)])} |"


def difference(baseline: Mapping[str, dict[str, float]], scores: Mapping[str, dict[str, float]]) -> str:
    """Text of the paired difference of SAD, or a dash for the baseline itself."""
    if scores is baseline:
        return "–"
    sad = next(one for one in compare(baseline, scores, ["sad"]).differences if one.metric == "sad")
    return f"{sad.difference:+.2f} ({sad.low:+.2f} to {sad.high:+.2f}), better on {sad.wins} of {sad.images}"


def write_sheet(path: Path, photographs: MattingFolder, mattes: Path, names: Sequence[str], width: int = 240) -> None:
    """Write one row for each photograph: image, trimap, the matte of each method, the true matte."""
    rows = []
    for sample in (photographs[index] for index in range(len(photographs))):
        grays = [np.asarray(Image.open(mattes / name / f"{sample['name']}.png")) for name in names]
        pictures = [sample["image"], *(cv2.merge([gray] * 3) for gray in (sample["trimap"], *grays, sample["alpha"]))]
        size = (width, round(width * sample["alpha"].shape[0] / sample["alpha"].shape[1]))
        rows.append(np.hstack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]))
    titles = np.zeros((24, rows[0].shape[1], 3), np.uint8)
    for index, title in enumerate(["image", "trimap", *names, "truth"]):
        cv2.putText(
            titles, title, (index * width + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA
        )
    with replacing(path) as temporary:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(np.vstack([titles, *rows])).save(temporary, format=kind, quality=88)


if __name__ == "__main__":
    run(main)
