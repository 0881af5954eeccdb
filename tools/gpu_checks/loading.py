"""Images per second of the training loader with the DIM recipe, by the number of workers."""

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data.training.dim_dataset import CompositionDataset
from data.training.loader import build_train_loader
from tools.benchmark_loader import write_procedural_set
from tools.gpu_checks.rows import Case, Row
from tools.gpu_checks.settings import Settings

CACHE_PASSES = 3  # passes over the foregrounds before the measurement


def cases(settings: Settings) -> Iterator[Case]:
    files, (batch, side), seconds = settings.sized((24, (16, 512), 5.0), (2, (2, 64), 0.2))
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        root = write_procedural_set(Path(folder), files)
        for workers in settings.sized(sorted({min(4, cores), cores}), [1]):
            check = partial(time_loader, root, files, batch, side, workers, seconds)
            yield f"{workers} workers on {cores} cores, batch {batch}, crop {side}", check


def time_loader(root: Path, files: int, batch_size: int, side: int, workers: int, seconds: float) -> Row:
    """Draw batches until the foregrounds are cached, then for some seconds."""
    dataset = CompositionDataset(root, samples_per_epoch=43100, crop_size=side)
    batches = iter(build_train_loader(dataset, batch_size, num_workers=workers))
    for _ in range(max(2 * workers, -(-CACHE_PASSES * files // batch_size))):
        next(batches)
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        batch = next(batches)
        images += len(batch["image"])
    per_second = images / (time.perf_counter() - started)
    finite = all(bool(batch[key].isfinite().all()) for key in ("image", "alpha", "trimap"))
    return Row(f"{per_second:.0f} images/s", finite, {"images_per_second": per_second})
