"""Training loader: an endless stream of batches, the same for any number of workers, processes and restarts."""

import itertools
import os
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from data.training.crop_sized import with_crop_size
from data.training.fixed_views import FixedViews
from data.training.workers import init_worker
from runtime.errors import InputError


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, index) endlessly. The order of each epoch is drawn from (seed, epoch).

    The processes of a job share one order, so that the samples of the whole job do not depend on their number. A stream
    that starts at sample `start` is the stream from 0 without its first `start` samples.

    Args:
        size: number of samples in an epoch.
        seed: seed of the shuffling.
        start: number of samples that the whole job has consumed before.
        rank, world_size: number of this process, and number of processes of the job.
    """

    def __init__(self, size: int, seed: int, start: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if size < 1:
            raise InputError(f"EpochSampler: an epoch needs at least one sample, got {size}")
        self.size, self.seed, self.start = size, seed, start
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + self.rank
        epoch, order = -1, np.empty(0, np.int64)
        while True:
            wanted, offset = divmod(position, self.size)
            if wanted != epoch:
                epoch, order = wanted, np.random.default_rng([self.seed, wanted]).permutation(self.size)
            yield epoch, int(order[offset])
            position += self.world_size


class StagedLoader:
    """Batches of one loader up to an iteration, then of another with the same sample order and other batches.

    Args:
        early: endless loader over an EpochSampler.
        late: loader that continues where `early` ends.
        num_early: number of batches from `early`.
        world_size: number of processes of the job.
    """

    def __init__(self, early: DataLoader, late: DataLoader, num_early: int, world_size: int) -> None:
        self.early, self.late, self.num_early, self.world_size = early, late, num_early, world_size

    @property
    def dataset(self) -> Dataset:
        return self.late.dataset

    def __iter__(self) -> Iterator[dict]:
        samplers = [loader.batch_sampler.sampler for loader in (self.early, self.late)]
        samplers[1].start = samplers[0].start + self.num_early * self.early.batch_sampler.batch_size * self.world_size
        if self.num_early:
            yield from itertools.islice(self.early, self.num_early)  # the loading processes of `early` end here
        yield from self.late


def build_train_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 4,
    seed: int = 0,
    start_iteration: int = 0,
    start_sample: int | None = None,
    accumulate: int = 1,
    late_start: int | None = None,
    late_crop_size: int | None = None,
    late_batch_size: int | None = None,
    pin_memory: bool | None = None,
    fixed_views: int | None = None,
    prefetch_factor: int | None = None,
    persistent_workers: bool = False,
) -> DataLoader | StagedLoader:
    """Build the endless training loader of this process.

    Args:
        dataset: data set indexed by (epoch, index), whose samples are pure functions of them.
        batch_size: number of samples per process and batch.
        num_workers: number of loading processes, at most one per processor; 0 loads in the training process.
        seed: seed of the sample order.
        start_iteration: number of completed iterations, when resuming.
        start_sample: number of samples of all processes in these iterations; None to compute it from the settings.
        accumulate: number of batches per iteration.
        late_start: iteration from which crops and batches have another size; None for never.
        late_crop_size, late_batch_size: their later sizes; None for no change. A data set whose crops change is a
            `CropSized`.
        pin_memory: whether memory is pinned for faster copies to a GPU; by default if there is a GPU.
        fixed_views: number of samples of the data set to train on in every epoch (`FixedViews`); None for different
            samples in each epoch.
        prefetch_factor: number of batches that each loading process prepares ahead; None for PyTorch's 2.
        persistent_workers: whether the loading processes stay when the loader is iterated again. Training iterates it
            once, so nothing changes for a run.

    Raises:
        InputError: a size below 1, a late size without `late_start`, `late_start` without a late size, a data set
            whose crops have one size only, or a setting of loading processes without any.
    """
    _check_sizes(batch_size, num_workers, late_start, late_crop_size, late_batch_size)
    _check_workers(num_workers, prefetch_factor, persistent_workers)
    if fixed_views is not None:
        if late_crop_size is not None:
            raise InputError(
                f"dataloader.train.late_crop_size={late_crop_size}: the {fixed_views} fixed views keep their crop size "
                "throughout; leave out late_crop_size, or fixed_views"
            )
        dataset = FixedViews(dataset, fixed_views)
    num_workers = min(num_workers, os.cpu_count() or 1)
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    late_batch_size = late_batch_size or batch_size
    early_done = start_iteration if late_start is None else min(start_iteration, late_start)
    if start_sample is None:
        per_process = early_done * batch_size + (start_iteration - early_done) * late_batch_size
        start_sample = per_process * accumulate * world_size

    def loader(dataset: Dataset, batch_size: int) -> DataLoader:
        sampler = EpochSampler(len(dataset), seed, start_sample, rank, world_size)
        return DataLoader(
            dataset,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last=True),
            num_workers=num_workers,
            worker_init_fn=init_worker,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
        )

    early = loader(dataset, batch_size)
    if late_start is None:
        return early
    late = loader(dataset if late_crop_size is None else with_crop_size(dataset, late_crop_size), late_batch_size)
    return StagedLoader(early, late, (late_start - early_done) * accumulate, world_size)


def _check_sizes(
    batch_size: int,
    num_workers: int,
    late_start: int | None,
    late_crop_size: int | None,
    late_batch_size: int | None,
) -> None:
    sizes = {"batch_size": batch_size, "late_crop_size": late_crop_size, "late_batch_size": late_batch_size}
    for name, size in sizes.items():
        if size is not None and (not isinstance(size, int) or size < 1):
            raise InputError(f"dataloader.train.{name}: expected a whole number of at least 1, got {size!r}")
    for name, number in {"num_workers": num_workers, "late_start": late_start}.items():
        if number is not None and (not isinstance(number, int) or number < 0):
            raise InputError(f"dataloader.train.{name}: expected a whole number of at least 0, got {number!r}")
    if (late_start is None) != (late_crop_size is None and late_batch_size is None):
        raise InputError(
            "dataloader.train: late_start and a late size belong together, got late_start "
            f"{late_start}, late_crop_size {late_crop_size} and late_batch_size {late_batch_size}"
        )


def _check_workers(num_workers: int, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if prefetch_factor is not None and (not isinstance(prefetch_factor, int) or prefetch_factor < 1):
        raise InputError(
            f"dataloader.train.prefetch_factor: expected a whole number of at least 1 or null, got {prefetch_factor!r}"
        )
    given = {"prefetch_factor": prefetch_factor is not None, "persistent_workers": persistent_workers}
    if num_workers == 0 and any(given.values()):
        name = next(name for name, is_given in given.items() if is_given)
        raise InputError(
            f"dataloader.train.{name}: is for loading processes, and num_workers is 0; leave it out, or raise "
            "num_workers"
        )
