"""Iterations of the trainer in mixed precision with averaged weights, also interrupted and resumed."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tools.gpu_checks.inputs import parameters_of
from tools.gpu_checks.rows import Case, Row, Skipped
from tools.gpu_checks.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 0.1  # share of the distance by which training moved the weights, as bits differ between runs on a GPU


def cases(settings: Settings) -> Iterator[Case]:
    iterations = settings.sized(20, 4)
    for precision in ("bf16", "fp16"):
        yield f"{iterations} iterations, {precision}", partial(compare, settings, precision, iterations)


def compare(settings: Settings, precision: str, iterations: int) -> Row:
    """Compare a run with one that continues from its middle checkpoint."""
    if find_spec("detectron2") is None:
        raise Skipped("detectron2 is not installed")
    from engine.training.run import train

    with tempfile.TemporaryDirectory() as folder:
        whole, cut, short = (Path(folder) / name for name in ("whole", "cut", "short"))
        first = parameters_of(train(config_of(settings, short, precision, iterations, max_iter=1)))
        uninterrupted = parameters_of(train(config_of(settings, whole, precision, iterations)))
        copy_middle(whole, cut, iterations // 2)
        resumed = parameters_of(train(config_of(settings, cut, precision, iterations), resume=True))
        losses = [logged_losses(run) for run in (whole, cut)]
    finite = all(len(each) == iterations and all(map(math.isfinite, each)) for each in losses)
    relative = ((resumed - uninterrupted).norm() / (uninterrupted - first).norm()).item()
    return Row(
        f"losses {losses[0][0]:.3f} to {losses[0][-1]:.3f}, {'all' if finite else 'not all'} finite; resumed in the "
        f"middle, averaged weights differ by {relative:.1e} of the distance they moved, at most {LIMIT:.0e}",
        finite and relative <= LIMIT,
        {"losses": losses, "relative": relative},
    )


def config_of(settings: Settings, folder: Path, precision: str, iterations: int, max_iter: int | None = None):
    """Config of ViTMatte-S on procedural images, or of the demo's model at tiny sizes."""
    from engine.config import load_config

    side, batch, workers = settings.sized((256, 8, 4), (32, 2, 0))
    overrides = [
        f"train.output_dir={folder}", f"train.device={settings.device}", f"train.max_iter={max_iter or iterations}",
        "train.amp.enabled=True", f"train.amp.dtype={precision}", "train.ema_decay=0.9", "train.eval_period=0",
        "train.log_period=1", f"train.checkpointer.period={iterations // 2}", "train.num_train_panels=0",
        "dataloader.train.dataset.backgrounds=textures", f"dataloader.train.dataset.size={side}",
        f"dataloader.train.batch_size={batch}", f"dataloader.train.num_workers={workers}",
    ]  # fmt: skip
    config = load_config(str(ROOT / "configs" / "ViTMatte_demo.py"), overrides)
    if not settings.tiny:
        config.model = load_config(str(ROOT / "configs" / "ViTMatte_S_100ep.py")).model
        config.optimizer.lr = 5e-4
    return config


def copy_middle(whole: Path, cut: Path, done: int) -> None:
    """Copy a run folder in its state after the checkpoint of `done` iterations was written."""
    shutil.copytree(whole, cut)
    middle = cut / f"model_{done - 1:07d}.pth"
    for path in cut.glob("model_*.pth"):
        if path != middle:
            path.unlink()
    (cut / "last_checkpoint").write_text(middle.name)


def logged_losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return [line["total_loss"] for line in lines if line.get("total_loss") is not None]
