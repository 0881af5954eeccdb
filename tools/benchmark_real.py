"""Methods on photographs with true mattes: scores, seconds and paired differences, as one Markdown table.

    python tools/benchmark_real.py --data-root DIR [--trimap-dir trimap2] [--methods box,closed-form,knn] [--json FILE]

DIR holds image/, trimap/ and alpha/ with files of the same names. "box" is the model in the box, "closed-form" ours
without a matrix; "pymatting", "knn", "lkm" and "random-walk" are PyMatting's (requirements/test.txt). Scores are those
of evaluation.py over the unknown region. Differences are to the first method, with 95 % bootstrap intervals over the
images.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from data.images.trimap import UNKNOWN, fuse_with_trimap
from data.testing.matting_folder import MattingFolder
from metrics import METRICS, PAPER_METRICS, compare, mean_scores, score_image
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image (H, W, 3), trimap (H, W) uint8 -> alpha (H, W) uint8

PYMATTING = {
    "pymatting": "estimate_alpha_cf", "knn": "estimate_alpha_knn", "lkm": "estimate_alpha_lkm",
    "random-walk": "estimate_alpha_rw",
}  # fmt: skip
METHODS = ("box", "closed-form", *PYMATTING)


def method_of(name: str) -> Method:
    """The method of a name in `METHODS`.

    Raises:
        InputError: no such method, or its package is missing.
    """
    if name == "box":
        return _box()
    if name == "closed-form":
        return _closed_form()
    if name not in PYMATTING:
        raise InputError(f"--methods: expected some of {', '.join(METHODS)}, got {name!r}")
    try:
        import pymatting
    except ImportError as error:
        raise InputError(f"--methods {name}: PyMatting is missing; install requirements/test.txt") from error
    estimate = getattr(pymatting, PYMATTING[name])

    def alpha_of(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        levels = np.select([trimap == UNKNOWN, trimap > UNKNOWN], [0.5, 1.0], 0.0)
        alpha = estimate(image / 255, levels)
        return fuse_with_trimap(np.rint(np.clip(alpha, 0, 1) * 255).astype(np.uint8), trimap)

    return alpha_of


def _box() -> Method:
    from engine.inference import Predictor
    from engine.inference.shipped import BOX, read_shipped
    from modeling.weights.loading import load_model
    from modeling.weights.model_config import build_model

    checkpoint = read_shipped(BOX)
    model = build_model(checkpoint, BOX)
    load_model(model, checkpoint, BOX)
    predictor = Predictor(model.eval())
    return lambda image, trimap: predictor.one({"image": image, "trimap": trimap})["alpha"]


def _closed_form() -> Method:
    from engine.inference import Predictor
    from modeling.meta_arch.closed_form import ClosedForm

    predictor = Predictor(ClosedForm().eval())
    return lambda image, trimap: predictor.one({"image": image, "trimap": trimap})["alpha"]


def measure(method: Method, photographs: MattingFolder) -> tuple[dict[str, dict[str, float]], float]:
    """Scores by name, and mean seconds an image."""
    scores, seconds = {}, 0.0
    for sample in (photographs[index] for index in range(len(photographs))):
        started = time.perf_counter()
        alpha = method(sample["image"], sample["trimap"])
        seconds += time.perf_counter() - started
        scores[sample["name"]] = score_image(alpha, sample["alpha"], sample["trimap"])
    return scores, seconds / len(photographs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder of image/, trimap/ and alpha/")
    parser.add_argument("--trimap-dir", default="trimap", help="folder of the trimaps in it (default: trimap)")
    parser.add_argument("--methods", default="box,closed-form,pymatting", help=f"some of {','.join(METHODS)}")
    parser.add_argument("--json", type=Path, help="also write the scores of every image here")
    options = parser.parse_args()
    names = options.methods.split(",")
    root = options.data_root
    photographs = MattingFolder(root / "image", root / options.trimap_dir, root / "alpha")
    methods = {name: method_of(name) for name in names}
    results = {}
    print(f"| {len(photographs)} photographs, {options.trimap_dir} | " + " | ".join(
        METRICS[name].title for name in PAPER_METRICS) + f" | s an image | SAD against {names[0]} |")  # fmt: skip
    print("| --- " * (len(PAPER_METRICS) + 3) + "|")
    for name, method in methods.items():
        results[name], seconds = measure(method, photographs)
        means = mean_scores(results[name].values())
        cells = [f"{means[metric] * METRICS[metric].scale:.2f}" for metric in PAPER_METRICS]
        print(f"| {name} | {' | '.join(cells)} | {seconds:.1f} | {_difference(results[names[0]], results[name])} |")
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


def _difference(baseline: dict, scores: dict) -> str:
    if scores is baseline:
        return "–"
    sad = next(one for one in compare(baseline, scores, ["sad"]).differences if one.metric == "sad")
    return f"{sad.difference:+.2f} ({sad.low:+.2f} to {sad.high:+.2f}), better on {sad.wins} of {sad.images}"


if __name__ == "__main__":
    run(main)
