"""Benchmark of systems on images with true mattes: scores, paired intervals, time, memory and size, as Markdown.

    python tools/benchmark_real.py --data-root DIR [--trimap-dir trimap2] [--methods box,closed-form,knn] [--json FILE]
        [--mattes DIR] [--sheet FILE.jpg]
    python tools/benchmark_real.py --data-root DIR --methods box,MINE=output/run/model_final.pth,chain

DIR has image/, trimap/ and alpha/ with files of the same names; --image-dir and --alpha-dir name other folders. Methods
are

    box            the model in the box
    closed-form    this project's closed-form matting
    pymatting, knn, lkm, random-walk    those of PyMatting (requirements/test.txt)
    half           no method: alpha = 0.5 at the unknown pixels
    chain          tools/auto_matte.py --box: GrabCut in a box around the true subject, a trimap from its mask, and the
                   model in the box; it does not see the trimap
    NAME=CHECKPOINT    a trained system of any kind; one without a trimap sees the image alone, and a segmentation is
                   the first part of the chain (tools/auto_matte.py --seg)

Scores are those of evaluation.py over the unknown region of the set's trimaps, for every method; "SAD, whole image"
also counts errors in the known regions, which methods with a trimap cannot make. Parentheses contain 95 % bootstrap
intervals, over the images, of the paired difference to the first method. Each method runs in a separate process, after
a small image that loads and compiles its parts. Processor seconds are of all threads. Memory is the growth of the
process over all images. Parameters are those of all networks that a method runs.
"""

import argparse
import contextlib
import functools
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
from engine.inference.auto_matte import AutoMatte
from engine.inference.subjects import PointedSubjects, SegmentedSubjects
from metrics import METRICS, PAPER_METRICS, compare, mean_scores, score_image
from modeling.meta_arch.base import System
from modeling.meta_arch.closed_form import ClosedForm
from modeling.weights.system_file import read_system
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing
from runtime.memory import peak_gib, resident_gib

PYMATTING = {
    "pymatting": "estimate_alpha_cf", "knn": "estimate_alpha_knn", "lkm": "estimate_alpha_lkm",
    "random-walk": "estimate_alpha_rw",
}  # fmt: skip
SUBJECT_FROM = 26  # 8-bit alpha of a pixel that a user's box around the subject includes
SHEET_WIDTH, PICTURE_WIDTH = 1600, 240  # pixels, at most
Box = tuple[int, int, int, int]  # left, top, right, bottom


class Method(NamedTuple):
    """A way to a matte.

    Attributes:
        alpha_of: function of image (H, W, 3) uint8, trimap (H, W) uint8 and box around the subject, of which it uses
            what it needs; it returns alpha (H, W) uint8.
        parameters: number of parameters of its networks.
    """

    alpha_of: Callable[[np.ndarray, np.ndarray, Box], np.ndarray]
    parameters: int = 0


def method_of(name: str) -> Method:
    """The method of an item of --methods.

    Raises:
        InputError: see `require_known`; a checkpoint cannot be read.
    """
    require_known(name)
    label, _, checkpoint = name.partition("=")
    if checkpoint:
        return _trained(read_system(checkpoint))
    return BUILT_IN[label]()


def methods_named(names: Sequence[str]) -> dict[str, str]:
    """The items of --methods by their labels in the table.

    Raises:
        InputError: see `require_known`; two have the same label.
    """
    methods = {}
    for name in names:
        require_known(name)
        label = name.partition("=")[0]
        if label in methods:
            raise InputError(f"--methods: {label} is named twice; expected different names")
        methods[label] = name
    return methods


def require_known(name: str) -> None:
    """Raise InputError for a method that does not exist, or whose package or checkpoint is missing."""
    label, is_trained, checkpoint = name.partition("=")
    if is_trained:
        if not label or Path(label).name != label or label in BUILT_IN:
            raise InputError(f"--methods {name}: expected a name of your own before =, which also names a folder")
        if not Path(checkpoint).is_file():
            raise InputError(f"--methods {name}: expected the checkpoint of a trained system, found no such file")
    elif label not in BUILT_IN:
        raise InputError(f"--methods: expected NAME=CHECKPOINT or some of {', '.join(BUILT_IN)}, got {name!r}")
    elif label in PYMATTING and importlib.util.find_spec("pymatting") is None:
        raise InputError(f"--methods {name}: PyMatting is missing; install requirements/test.txt")


def _trained(model: System) -> Method:
    """The method of a system: its alpha, or the chain with its mask."""
    if "alpha" not in model.outputs:
        return _segmenting_chain(model)
    predictor = Predictor(model)
    return Method(lambda image, trimap, box: predictor.one({"image": image, "trimap": trimap})["alpha"], _size(model))


def _segmenting_chain(model: System) -> Method:
    matting = read_system()
    subjects = SegmentedSubjects(Predictor(model, probabilities=True))
    chain = AutoMatte(subjects, Predictor(matting))
    return Method(lambda image, trimap, box: chain.one({"image": image})["alpha"], _size(model) + _size(matting))


def _pointing_chain() -> Method:
    matting = Predictor(read_system())

    def alpha_of(image: np.ndarray, trimap: np.ndarray, box: Box) -> np.ndarray:
        return AutoMatte(PointedSubjects(box), matting).one({"image": image})["alpha"]

    return Method(alpha_of, _size(matting.model))


def _pymatting(function: str) -> Method:
    import pymatting

    estimate = getattr(pymatting, function)

    def alpha_of(image: np.ndarray, trimap: np.ndarray, box: Box) -> np.ndarray:
        levels = np.select([trimap == UNKNOWN, trimap > UNKNOWN], [0.5, 1.0], 0.0)
        with contextlib.redirect_stdout(sys.stderr):  # keeps its warnings out of the table
            alpha = estimate(image / 255, levels)
        return fuse_with_trimap(np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8), trimap)

    return Method(alpha_of)


def _size(model: System) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


BUILT_IN: Mapping[str, Callable[[], Method]] = {
    "box": lambda: _trained(read_system()),
    "closed-form": lambda: _trained(ClosedForm().eval()),
    **{name: functools.partial(_pymatting, function) for name, function in PYMATTING.items()},
    "half": lambda: Method(lambda image, trimap, box: trimap.copy()),
    "chain": _pointing_chain,
}


def box_around(alpha: np.ndarray) -> Box:
    """The smallest box with all pixels of (H, W) uint8 `alpha` that show at least a tenth of the subject; the whole
    image if there are none."""
    rows, columns = np.nonzero(alpha >= SUBJECT_FROM)
    if not len(rows):
        return 0, 0, alpha.shape[1], alpha.shape[0]
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


class Measured(NamedTuple):
    """Results of a method on all images.

    Attributes:
        scores: metric -> value over the unknown region, by the name of the image.
        whole_sad: SAD over the whole image, by the name of the image.
        seconds, cpu_seconds: means over the images.
        gib: growth of the process's resident memory.
        parameters: number of parameters of the method's networks.
    """

    scores: dict[str, dict[str, float]]
    whole_sad: dict[str, float]
    seconds: float
    cpu_seconds: float
    gib: float
    parameters: int


def measure(name: str, images: MattingFolder, mattes: Path | None) -> Measured:
    """Run a method on all images in this process. Mattes are written into the folder `mattes` if it is given."""
    method = method_of(name)
    small = np.zeros((96, 96), np.uint8)
    small[24:72, 24:72], small[40:56, 40:56] = UNKNOWN, 255
    method.alpha_of(np.repeat(small[..., None], 3, axis=2), small, (24, 24, 72, 72))  # warm-up
    before = resident_gib()
    scores, whole_sad, seconds, cpu_seconds = {}, {}, [], []
    for sample in (images[index] for index in range(len(images))):
        box = box_around(sample["alpha"])
        started, cpu_started = time.perf_counter(), time.process_time()
        alpha = method.alpha_of(sample["image"], sample["trimap"], box)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        scores[sample["name"]] = score_image(alpha, sample["alpha"], sample["trimap"])
        whole_sad[sample["name"]] = score_image(alpha, sample["alpha"], metrics=["sad"])["sad"]
        if mattes is not None:
            write_png(mattes / f"{sample['name']}.png", alpha)
    means = float(np.mean(seconds)), float(np.mean(cpu_seconds))
    return Measured(scores, whole_sad, *means, peak_gib() - before, method.parameters)


def main() -> None:
    options = parse_arguments()
    methods = methods_named(options.methods.split(","))
    root = options.data_root
    images = MattingFolder(root / options.image_dir, root / options.trimap_dir, root / options.alpha_dir)
    results: dict[str, Measured] = {}
    print(header(len(images), options.trimap_dir, next(iter(methods))))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for label, name in methods.items():
            mattes = None if options.mattes is None else options.mattes / label
            if mattes is not None:
                mattes.mkdir(parents=True, exist_ok=True)
            results[label] = pool.submit(measure, name, images, mattes).result()
            print(row(label, results[label], next(iter(results.values()))), flush=True)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps({label: one._asdict() for label, one in results.items()}, indent=1) + "\n")
    if options.sheet:
        write_sheet(options.sheet, images, options.mattes, list(methods), options.sheet_rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of image/, trimap/ and alpha/")
    parser.add_argument("--image-dir", default="image", help="name of the folder of images (default: image)")
    parser.add_argument("--trimap-dir", default="trimap", help="name of the folder of trimaps (default: trimap)")
    parser.add_argument("--alpha-dir", default="alpha", help="name of the folder of true mattes (default: alpha)")
    parser.add_argument(
        "--methods", default="box,closed-form,pymatting", help=f"some of {','.join(BUILT_IN)}, and NAME=CHECKPOINT"
    )
    parser.add_argument("--json", type=Path, help="file for the scores of every image")
    parser.add_argument("--mattes", type=Path, help="folder for the mattes, with a sub-folder for each method")
    parser.add_argument(
        "--sheet", type=Path, help="picture to write: image, trimap, each method, truth (needs --mattes)"
    )
    parser.add_argument("--sheet-rows", type=int, help="number of images in it, evenly spaced (default: all)")
    options = parser.parse_args()
    if options.sheet and not options.mattes:
        raise InputError("--sheet: expected --mattes too, the folder for the mattes that it shows")
    if options.sheet and options.sheet.suffix.lower() not in (".jpg", ".png"):
        raise InputError(f"--sheet: expected a name ending in .jpg or .png, got {options.sheet}")
    if options.sheet_rows is not None and options.sheet_rows < 1:
        raise InputError(f"--sheet-rows: expected 1 or more, got {options.sheet_rows}")
    return options


def header(images: int, trimaps: str, baseline: str) -> str:
    titles = [METRICS[name].title for name in PAPER_METRICS]
    costs = ["processor s", "GiB", "parameters (10^6)"]
    cells = [f"{images} images, {trimaps}", *titles, "SAD, whole image", f"SAD better than {baseline}", *costs]
    return f"| {' | '.join(cells)} |\n" + "| --- " * len(cells) + "|"


def row(label: str, measured: Measured, baseline: Measured) -> str:
    means = mean_scores(measured.scores.values())
    cells = {metric: f"{means[metric] * METRICS[metric].scale:.2f}" for metric in PAPER_METRICS}
    better = "–"
    if measured is not baseline:
        differences = compare(baseline.scores, measured.scores, PAPER_METRICS).differences
        for one in differences:
            low, high = (end * METRICS[one.metric].scale for end in (one.low, one.high))
            cells[one.metric] += f" ({low:+.2f} to {high:+.2f})"
        sad = differences[PAPER_METRICS.index("sad")]
        better = f"{sad.wins} of {sad.images}"
    whole = METRICS["sad"].scale * float(np.mean(list(measured.whole_sad.values())))
    costs = [f"{measured.cpu_seconds:.2f}", f"{measured.gib:.2f}", f"{measured.parameters / 1e6:.2f}"]
    return f"| {' | '.join([label, *cells.values(), f'{whole:.2f}', better, *costs])} |"


def write_sheet(path: Path, images: MattingFolder, mattes: Path, labels: Sequence[str], rows: int | None) -> None:
    """Write one row for each of `rows` images (None for all): image, trimap, the matte of each method, the truth."""
    titles = ["image", "trimap", *labels, "truth"]
    width = min(PICTURE_WIDTH, SHEET_WIDTH // len(titles))
    stack = [_title_bar(titles, width)]
    for index in np.unique(np.linspace(0, len(images) - 1, rows or len(images)).astype(int)):
        sample = images[int(index)]
        grays = [np.asarray(Image.open(mattes / label / f"{sample['name']}.png")) for label in labels]
        pictures = [sample["image"], *(cv2.merge([gray] * 3) for gray in (sample["trimap"], *grays, sample["alpha"]))]
        size = (width, round(width * sample["alpha"].shape[0] / sample["alpha"].shape[1]))
        stack.append(np.hstack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]))
    with replacing(path) as temporary:
        kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(np.vstack(stack)).save(temporary, format=kind, quality=88)


def _title_bar(titles: Sequence[str], width: int) -> np.ndarray:
    """(24, width * n, 3) uint8: each title over its column, in letters small enough for it."""
    bar = np.zeros((24, width * len(titles), 3), np.uint8)
    for index, title in enumerate(titles):
        (needed, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
        scale = min(0.5, 0.5 * (width - 8) / needed)
        at = (index * width + 4, 17)
        cv2.putText(bar, title, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return bar


if __name__ == "__main__":
    run(main)
