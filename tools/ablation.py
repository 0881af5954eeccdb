"""Train the published recipe with one thing changed at a time, at the size of a CPU, and tabulate what each is worth.

    python tools/ablation.py --output-dir output/ablation [--only NAME ...] [--seeds 0 1 2] [--jobs 2] [--list]

Every run trains configs/ablation_published.py with the same procedural images, seeds and number of iterations, and is
scored on the same held-out images. Runs that are done with the same settings are kept: the command goes on where it was
stopped. After a change of the code, name another folder.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from torch import Tensor

from data.synthetic import write_composition1k_layout, write_dim_layout
from modeling.criterion import MattingCriterion
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing

CONFIG = "configs/ablation_published.py"
BASELINE = "published"
METRICS = ("sad", "mse", "grad", "conn")
FOREGROUNDS, BACKGROUNDS, TRAIN_SIZE = 100, 600, 192
TEST_IMAGES, TEST_SIZE = 32, 160
PRELOADED = [
    "engine.training.run",
    "engine.evaluation.validation",
    "data.training.dim_dataset",
    "data.testing.composition1k",
    "skimage.measure",
]

COSINE = [
    "lr_multiplier.scheduler=null",
    "lr_multiplier.scheduler={_target_:fvcore.common.param_scheduler.CosineParamScheduler,start_value:1.0,end_value:0.01}",
]
LATE_CROP = [
    "dataloader.train.late_start=320",
    "dataloader.train.late_crop_size=128",
    "dataloader.train.late_batch_size=3",  # as many pixels in an iteration
]


class PublishedScaleCriterion(MattingCriterion):
    """Losses whose scale is right for one crop size only, as published: masked sums over a fixed number of pixels.

    Args:
        crop_size: the crop's side that the constant in the code stands for; 512 in hustvl/ViTMatte.
    """

    def __init__(self, losses: list[str], crop_size: int) -> None:
        super().__init__(losses)
        self.crop_size = crop_size

    def forward(self, pred_alpha: Tensor, alpha: Tensor, trimap: Tensor, *args: object) -> dict[str, Tensor]:
        losses = super().forward(pred_alpha, alpha, trimap, *args)
        scale = self.crop_size**2 / trimap[0].numel()
        return {name: loss if name == "loss_pha_laplacian" else scale * loss for name, loss in losses.items()}


@dataclass(frozen=True)
class Change:
    """What a row of the table changes in the published recipe: `overrides` as main.py takes them."""

    title: str
    overrides: tuple[str, ...]


def _change(title: str, *overrides: str) -> Change:
    return Change(title, overrides)


CHANGES = {
    BASELINE: _change("the published recipe"),
    "registers": _change(
        "CLS and 4 register tokens kept", "model.backbone.use_cls_token=True", "model.backbone.num_register_tokens=4"
    ),
    "window_rope": _change(
        "windows take their part of the image's coordinates", "model.backbone.rope_in_windows=image"
    ),
    "masked_windows": _change("incomplete windows are not filled up", "model.backbone.window_padding=masked"),
    "rope_rescale": _change("coordinates rescaled by up to 2 in training", "model.backbone.rope_rescale=2.0"),
    "rope_step": _change("coordinates of a fixed step", "model.backbone.rope_coordinates=step"),
    "pairing": _change("backgrounds under random foregrounds", "dataloader.train.dataset.pairing=random"),
    "fused_loss": _change("losses of the prediction fused with the trimap", "model.criterion.fuse_trimap=True"),
    "one_hot": _change(
        "one-hot trimap", "model.trimap_input=one_hot", "model.backbone.in_chans=6", "model.decoder.img_chans=6"
    ),
    "native_trimap": _change(
        "trimaps made at the foreground's size",
        "dataloader.train.dataset.trimap_size=null",
        "dataloader.train.dataset.trimap_erosion=[1,10]",
    ),
    "late_crop": _change("twice the crop in the last fifth, as many pixels", *LATE_CROP),
    "late_crop_published_scale": _change(
        "the same, losses divided by the early crop's pixels",
        *LATE_CROP,
        "model.criterion._target_=tools.ablation.PublishedScaleCriterion",
        "+model.criterion.crop_size=64",
    ),
    "ema": _change("averaged weights", "train.ema_decay=0.98"),
    "frozen_norm": _change("BatchNorm frozen in the last tenth", "train.freeze_batch_norm=0.1"),
    "clip": _change("gradients clipped to norm 1", "train.clip_grad_norm=1.0"),
    "head_lr_1": _change("head at the base rate (published: 3)", "optimizer.params.head_lr_mult=1.0"),
    "head_lr_6": _change("head at 6 times the base rate", "optimizer.params.head_lr_mult=6.0"),
    "cosine": _change("cosine schedule", *COSINE),
    "muon": _change(
        "Muon for the new layers",
        "optimizer._target_=engine.training.muon.MuonAdamW",
        "optimizer.params.muon_for_new=True",
    ),
    "multi_layer": _change("features of all blocks into the decoder", "model.backbone.merge_block_indexes=[0,1,2]"),
    "colour_prior": _change(
        "colour propagation channels",
        "model.colour_prior={_target_:modeling.priors.colour_prior.ColourPrior}",
        "model.decoder.img_chans=16",
    ),
}


def _together(title: str, *names: str) -> Change:
    return Change(title, tuple(override for name in names for override in CHANGES[name].overrides))


# what helped, on windows as every DINOv3 config of the project has them
HELPFUL = ("registers", "window_rope", "masked_windows", "multi_layer", "muon", "colour_prior")
CHANGES |= {
    "together": _together("what helped, together", *HELPFUL),
    "together_without_prior": _together("the same without colour propagation", *HELPFUL[:-1]),
    "together_cosine_ema": _together(
        "what helped, with a cosine schedule and averaged weights", *HELPFUL, "cosine", "ema"
    ),
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.list:
        for name, change in CHANGES.items():
            print(f"{name:28} {change.title}")
        return
    names = arguments.only or list(CHANGES)
    for name in names:
        if name not in CHANGES:
            raise InputError(f"--only: no change named {name}; there are {', '.join(CHANGES)}")
    write_data(arguments.output_dir)
    train_all(arguments.output_dir, names, arguments.seeds, arguments.jobs, arguments.overrides)
    print(table(arguments.output_dir, arguments.seeds))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, default=Path("output/ablation"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these changes, by their names (see --list)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--list", action="store_true", help="print the changes and leave")
    parser.add_argument("--overrides", nargs="+", default=[], metavar="key=value", help="for all runs")
    return parser.parse_args()


def write_data(folder: Path) -> None:
    """Draw the training and the held-out images, unless they are there."""
    complete = folder / "data" / "complete"
    sizes = f"{FOREGROUNDS} {BACKGROUNDS} {TRAIN_SIZE} {TEST_IMAGES} {TEST_SIZE}\n"
    if complete.exists():
        if complete.read_text() != sizes:
            raise InputError(f"{folder}: holds images of other sizes or numbers; name another folder")
        return
    write_dim_layout(folder / "data" / "foregrounds", FOREGROUNDS, size=TRAIN_SIZE, seed=11)
    write_dim_layout(folder / "data" / "backgrounds", BACKGROUNDS, size=TRAIN_SIZE, seed=12)
    write_composition1k_layout(folder / "data" / "test", TEST_IMAGES, size=TEST_SIZE, seed=13)
    complete.write_text(sizes)


def train_all(folder: Path, names: Iterable[str], seeds: Iterable[int], jobs: int, overrides: list[str]) -> None:
    """Train and score what is not done yet, seed by seed, each run in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    runs = [(name, seed) for seed in seeds for name in names]
    todo = [(name, seed) for name, seed in runs if not is_done(folder, name, seed, overrides)]
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(train_one, folder, name, seed, overrides): (name, seed) for name, seed in todo}
        for future in as_completed(futures):
            print(*futures[future], f"SAD {future.result()['sad']:.4f}", flush=True)


def result_path(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}_{seed}" / "scores.json"


def is_done(folder: Path, name: str, seed: int, overrides: list[str]) -> bool:
    """Whether a run has scores, and they are of these settings."""
    path = result_path(folder, name, seed)
    return path.exists() and json.loads(path.read_text())["settings"] == fingerprint(
        settings(folder, name, seed, overrides)
    )


def settings(folder: Path, name: str, seed: int, overrides: list[str]) -> list[str]:
    """The overrides of one run."""
    data = folder / "data"
    return [
        "train.device=cpu",
        f"train.seed={seed}",
        f"train.output_dir={result_path(folder, name, seed).parent}",
        f"dataloader.train.dataset.root={data / 'foregrounds'}",
        f"dataloader.train.dataset.bg_dir={data / 'backgrounds' / 'bg'}",
        f"dataloader.test.root={data / 'test'}",
        *CHANGES[name].overrides,
        *overrides,
    ]


def fingerprint(overrides: list[str]) -> str:
    """SHA-256 of the whole config with these overrides."""
    from engine.config import load_config

    return hashlib.sha256(str(load_config(CONFIG, overrides)).encode()).hexdigest()


def train_one(folder: Path, name: str, seed: int, overrides: list[str]) -> dict[str, float]:
    """One run: train, score the held-out images, write the scores into the run's folder."""
    import shutil

    import torch

    from engine.config import build, load_config
    from engine.evaluation.validation import validate
    from engine.training.run import build_evaluator, train

    torch.set_num_threads(1)
    path = result_path(folder, name, seed)
    shutil.rmtree(path.parent, ignore_errors=True)  # of a run that did not end
    changed = settings(folder, name, seed, overrides)
    config = load_config(CONFIG, changed)
    model = train(config)
    scores, _ = validate(model, build(config.dataloader.test), build_evaluator(config))
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"settings": fingerprint(changed), "scores": scores}) + "\n")
    for checkpoint in path.parent.glob("model_*.pth"):
        checkpoint.unlink()
    return scores


def table(folder: Path, seeds: list[int]) -> str:
    """A Markdown table: mean SAD and its standard deviation over the seeds, and the change against the baseline."""
    scores = {
        name: np.array([json.loads(result_path(folder, name, seed).read_text())["scores"]["sad"] for seed in seeds])
        for name in CHANGES
        if all(result_path(folder, name, seed).exists() for seed in seeds)
    }
    lines = [
        f"| change | SAD, mean of {len(seeds)} seeds | spread | against the published recipe |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in scores.items():
        spread = values.std(ddof=1) if len(seeds) > 1 else float("nan")
        change = ""
        if BASELINE in scores and name != BASELINE:
            ratios = values / scores[BASELINE] - 1  # seed by seed
            change = f"{ratios.mean():+.1%} ({', '.join(f'{ratio:+.1%}' for ratio in ratios)})"
        lines.append(f"| {CHANGES[name].title} | {values.mean():.4f} | {spread:.4f} | {change} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
