"""Study of diffusion: a one-shot decoder and DiffMatte at several steps, on the same encoder and training.

    python tools/diffusion_study.py --output-dir output/diffusion [--seeds 0 1 2] [--data-root DIR]

Both are trained for the same number of iterations on the same procedural images: configs/DiffMatte_demo.py, and
configs/ViTMatte_demo.py without its colour prior. Complete runs in the output folder are not repeated. Scores are over
the unknown region of unseen procedural images, and of the photographs in DIR/{image,trimap,alpha}: means over the
images and seeds. The spread is that of SAD over the seeds.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from data.testing.matting_folder import MattingFolder
from engine.inference import Predictor
from metrics import METRICS, PAPER_METRICS, mean_scores, score_image
from modeling.weights.system_file import read_system
from runtime.command_line import run

ROOT = Path(__file__).resolve().parents[1]
TEST_IMAGES, TEST_SIZE, TEST_SEED = 24, 256, 2_000_003


class Variant(NamedTuple):
    """One of the two models, and its sampling."""

    title: str
    model: str
    strategy: str | None = None
    clamp_known: str | None = None


OVERRIDES = {
    "one_shot": ("ViTMatte_demo", ["model.colour_prior=null", "model.decoder.img_chans=4"]),
    "diffmatte": ("DiffMatte_demo", []),
}
VARIANTS = (
    Variant("one-shot decoder", "one_shot"),
    *(Variant(f"{sampler.upper()}, {steps} step{'s' * (steps > 1)}", "diffmatte", f"{sampler}{steps}", "always")
      for sampler in ("ddim", "ddpm") for steps in (1, 2, 5, 10)),
    Variant("DDIM, 10 steps, known pixels estimated", "diffmatte", "ddim10", "never"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, default=Path("output/diffusion"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--data-root", type=Path, help="folder of image/, trimap/ and alpha/ of photographs")
    parser.add_argument("--trimap-dir", default="trimap", help="name of the folder of trimaps (default: trimap)")
    options = parser.parse_args()
    for seed in options.seeds:
        for name in OVERRIDES:
            train(options.output_dir, name, seed, options.iterations)
    sets: dict[str, Sequence[Mapping]] = {
        "procedural": EightBit(SyntheticMatting(size=TEST_SIZE, samples_per_epoch=TEST_IMAGES, seed=TEST_SEED))
    }
    if options.data_root:
        root = options.data_root
        sets["photographs"] = MattingFolder(root / "image", root / options.trimap_dir, root / "alpha")
    for title, samples in sets.items():
        print("\n" + table(title, [samples[index] for index in range(len(samples))], options))


def checkpoint_of(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}_{seed}" / "model_final.pth"


def train(folder: Path, name: str, seed: int, iterations: int) -> None:
    """Train one model, continue its run, or do nothing if it is complete."""
    path = checkpoint_of(folder, name, seed)
    if path.exists():
        return
    config, overrides = OVERRIDES[name]
    stages = [
        f"train.self_align_stage1_step={iterations * 2 // 5}",
        f"train.self_align_stage2_step={iterations * 3 // 5}",
    ]
    command = [
        sys.executable, str(ROOT / "main.py"), "--config-file", str(ROOT / "configs" / f"{config}.py"), "--resume",
        f"train.output_dir={path.parent}", f"train.seed={seed}", f"train.max_iter={iterations}", "train.eval_period=0",
        "train.device=cpu", *overrides, *(stages if name == "diffmatte" else []),
    ]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"{name}, seed {seed}: trained in {time.perf_counter() - started:.0f} s", flush=True)


def table(title: str, samples: Sequence[Mapping[str, np.ndarray]], options: argparse.Namespace) -> str:
    """A Markdown table of all variants on a set of images."""
    heads = [METRICS[name].title for name in PAPER_METRICS]
    lines = [f"| {title}, {len(samples)} images | {' | '.join(heads)} | spread | s an image |", "| --- " * 7 + "|"]
    half = mean_scores([score_image(sample["trimap"], sample["alpha"], sample["trimap"]) for sample in samples])
    cells = [f"{half[metric] * METRICS[metric].scale:.2f}" for metric in PAPER_METRICS]
    lines.append(f"| the trimap, unknown as half | {' | '.join(cells)} | – | – |")
    for variant in VARIANTS:
        results = [scored(variant, samples, options.output_dir, seed) for seed in options.seeds]
        means = mean_scores([scores for scores, _ in results])
        cells = [f"{means[metric] * METRICS[metric].scale:.2f}" for metric in PAPER_METRICS]
        sads = [scores["sad"] * METRICS["sad"].scale for scores, _ in results]
        spread = f"{statistics.stdev(sads):.2f}" if len(sads) > 1 else "–"
        seconds = statistics.median(seconds for _, seconds in results)
        lines.append(f"| {variant.title} | {' | '.join(cells)} | {spread} | {seconds:.3f} |")
    return "\n".join(lines)


def scored(
    variant: Variant, samples: Iterable[Mapping[str, np.ndarray]], folder: Path, seed: int
) -> tuple[dict[str, float], float]:
    """Mean scores, and the median seconds per image."""
    model = read_system(checkpoint_of(folder, variant.model, seed))
    if variant.strategy:
        model.set_sampling(variant.strategy, clamp_known=variant.clamp_known)
    predictor = Predictor(model)
    scores, seconds = [], []
    for sample in samples:
        started = time.perf_counter()
        alpha = predictor.one(sample)["alpha"]
        seconds.append(time.perf_counter() - started)
        scores.append(score_image(alpha, sample["alpha"], sample["trimap"]))
    return mean_scores(scores), statistics.median(seconds)


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    run(main)
