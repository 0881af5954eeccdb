"""Features of a frozen encoder, computed once for a fixed set of views and then read from the disk.

A file has the features (views, C, h, w) in float16 and is memory-mapped. A text file beside it records their origin:
the frozen weights, the settings of the encoder and of the views, and the source files. If any of these has changed,
another file is made, and the old one is named in a warning.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from data.training.fixed_views import FixedViews
from data.training.workers import init_worker
from engine.training.settings import RunSettings
from modeling.meta_arch import System
from runtime.errors import InputError
from runtime.files import replacing
from runtime.memory import amount_text
from runtime.precision import Precision

FORMAT = 1
DTYPE = np.float16
VIEWS = ("dataloader.train.dataset.", "dataloader.train.fixed_views")
MODEL = "model."
PROGRESS = 10.0  # seconds between messages about the progress
ENCODER = "backbone"  # the part of a system that computes the features; other parts do not matter

logger = logging.getLogger("dinomatte.features")


def cached_features(
    model: System, dataset: Any, config: DictConfig, precision: Precision, batch_size: int, num_workers: int
) -> Path:
    """The file with the features of all views, which is made if it does not exist.

    Args:
        model: model with its weights, without wrappers.
        dataset: data set of the loader, a FixedViews.
        config: config of the run; `train.cache_features` is the folder.
        batch_size, num_workers: settings for computing the features.

    Raises:
        InputError: the samples are not fixed, the encoder is not frozen, or the disk is too small.
    """
    if not isinstance(dataset, FixedViews):
        raise InputError(
            f"train.cache_features: a {type(dataset).__name__} draws new samples each epoch, whose features cannot be "
            "stored; set dataloader.train.fixed_views to a number of samples"
        )
    folder = Path(config.train.cache_features)
    origin = _origin(model, dataset, config, precision)
    path = folder / f"features_{_digest(json.dumps(origin, sort_keys=True).encode())[:16]}.npy"
    shape = (len(dataset), *_features(model, [dataset[0]], precision).shape[1:])
    if _holds(path, shape):
        logger.info("features of %d views are read from %s", len(dataset), path)
        return path
    _name_stale(folder, origin)
    _make(path, shape, model, dataset, precision, batch_size, num_workers)
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(origin, indent=1))
    return path


def _make(
    path: Path,
    shape: tuple[int, ...],
    model: System,
    dataset: FixedViews,
    precision: Precision,
    batch_size: int,
    num_workers: int,
) -> None:
    nbytes = int(np.prod(shape)) * np.dtype(DTYPE).itemsize
    place = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    size = f"the features of {len(dataset)} views take {amount_text(nbytes)}"
    if nbytes > free:
        raise InputError(
            f"train.cache_features={path.parent}: {size}, and {amount_text(free)} of the disk are free; lower "
            "dataloader.train.fixed_views"
        )
    logger.info("%s, in %s; computing them", size, path)
    started, done = time.perf_counter(), 0
    told = started
    samples = DataLoader(dataset, batch_size, num_workers=num_workers, worker_init_fn=init_worker, collate_fn=list)
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(DTYPE)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for some in samples:
                features = _features(model, some, precision)
                if tuple(features.shape[1:]) != shape[1:]:
                    raise InputError("train.cache_features: the views differ in size; give all the same crop size")
                if not np.isfinite(features).all():
                    raise InputError("train.cache_features: features are not finite in float16; train without it")
                file.write(features.tobytes())
                done += len(features)
                now = time.perf_counter()
                if now - told >= PROGRESS and done < len(dataset):
                    told, left = now, (now - started) / done * (len(dataset) - done)
                    logger.info("features: %d of %d views computed, about %.0f s to go", done, len(dataset), left)
        if done != len(dataset):
            raise InputError(f"train.cache_features: expected {len(dataset)} views, got {done}")
    logger.info("features of %d views computed in %.0f s", done, time.perf_counter() - started)


@torch.no_grad()
def _features(model: System, samples: list[Mapping[str, Any]], precision: Precision) -> np.ndarray:
    """Features (B, C, h, w) float16 of some samples."""
    was_training = model.training
    model.eval()
    try:
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in model.inputs}
        with precision.autocast():
            return model.frozen_features(model.prepare(batch)).float().cpu().numpy().astype(DTYPE)
    finally:
        model.train(was_training)


def _origin(model: System, dataset: FixedViews, config: DictConfig, precision: Precision) -> dict[str, Any]:
    """Plain values on which the features depend."""
    settings = RunSettings(config).values
    others = [name for name, _ in model.named_children() if name != ENCODER]

    def is_other(name: str) -> bool:
        return any(name == part or name.startswith((f"{part}.", f"{part}[")) for part in others)

    encoder = {
        key: value for key, value in settings.items() if key.startswith(MODEL) and not is_other(key.removeprefix(MODEL))
    }
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not is_other(name):
            weights.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {
        "format": FORMAT,
        "frozen weights": weights.hexdigest(),
        "encoder": encoder,
        "views": {key: value for key, value in settings.items() if key.startswith(VIEWS)},
        "files": _stamp(dataset.paths()),
        "precision": str(precision.dtype or torch.float32),
    }


def _stamp(paths: Iterable[Path]) -> str:
    """Hash of names, sizes and modification times."""
    facts = [[str(path), status.st_size, status.st_mtime_ns] for path in paths if (status := os.stat(path))]
    return _digest(json.dumps(facts).encode())


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether a complete file of this shape exists."""
    if not path.is_file():
        return False
    try:
        found = np.load(path, mmap_mode="r")
        if found.shape == shape and found.dtype == DTYPE:
            return True
        reason = f"holds {found.dtype} {found.shape}"
    except (ValueError, OSError, EOFError) as error:
        reason = str(error)
    logger.warning("%s: expected features %s, %s; computing them again", path, shape, reason)
    return False


def _name_stale(folder: Path, origin: Mapping[str, Any]) -> None:
    """Warn about unused features of another origin, and state the differences."""
    for description in sorted(folder.glob("features_*.json")):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            other = json.loads(description.read_text())
            changed = [name for name in origin if other.get(name) != origin[name]]
            if changed:
                logger.warning(
                    "%s: made with other %s, not used; remove it if no other run needs it",
                    description.with_suffix(".npy"),
                    ", ".join(changed),
                )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
