"""The endless stream of training batches: the same samples for any number of workers, processes and restarts."""

import itertools
import os
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from data.errors import InputError
from data.workers import init_worker


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield (epoch, index) for ever, every epoch in an order of its own drawn from (seed, epoch).

    The processes of a job deal one common order among them, so what a job as a whole sees does not depend on their
    number; a stream that starts at sample `start` is the stream from 0 with its head cut off.

    Args:
        size: samples in an epoch.
        seed: of the shuffling.
        start: how many samples the whole job has consumed already.
        rank, world_size: which share of the job this process takes.
    """

    def __init__(self, size: int, seed: int, start: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if size < 1:
            raise ValueError(f"EpochSampler: an epoch needs at least one sample, got {size}")
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
    """Batches of one loader up to an iteration, then of another: the same samples in order, cut otherwise.

    Args:
        early, late: endless loaders over an EpochSampler, which starts at 0.
        change: how many batches come from `early`.
        start: how many batches are left out at the start.
        world_size: processes of the job.
    """

    def __init__(self, early: DataLoader, late: DataLoader, change: int, start: int, world_size: int) -> None:
        self.early, self.late, self.change, self.start, self.world_size = early, late, change, start, world_size

    @property
    def dataset(self) -> Dataset:
        return self.early.dataset

    def __iter__(self) -> Iterator[dict]:
        from_early = max(self.change - self.start, 0)
        if from_early:
            self._begin(self.early, self.start * self._samples(self.early))
            yield from itertools.islice(self.early, from_early)
        late_batches = max(self.start - self.change, 0)
        self._begin(self.late, self.change * self._samples(self.early) + late_batches * self._samples(self.late))
        yield from self.late

    def _samples(self, loader: DataLoader) -> int:
        """Samples that the whole job takes with one batch."""
        return loader.batch_sampler.batch_size * self.world_size

    @staticmethod
    def _begin(loader: DataLoader, sample: int) -> None:
        loader.batch_sampler.sampler.start = sample


def build_train_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 4,
    seed: int = 0,
    start_iteration: int = 0,
    accumulate: int = 1,
    late_start: int | None = None,
    late_crop_size: int | None = None,
    late_batch_size: int | None = None,
    pin_memory: bool | None = None,
) -> DataLoader | StagedLoader:
    """Build the endless training loader of this process.

    Args:
        dataset: indexed by (epoch, index), each sample a pure function of them.
        batch_size: samples per process and batch.
        num_workers: loading processes, at most one for each processor; 0 loads in the training process.
        seed: of the sample order.
        start_iteration: iterations already done, when resuming.
        accumulate: batches to an iteration.
        late_start: iteration from which crops and batches have another size; None for never. The data set then has a
            method `with_crop_size`.
        late_crop_size, late_batch_size: their sizes from then on; None leaves them as they were.
        pin_memory: for faster copies to a GPU; by default where there is one.

    Raises:
        InputError: a late size without `late_start`, or `late_start` without any.
    """
    num_workers = min(num_workers, os.cpu_count() or 1)
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def loader(dataset: Dataset, batch_size: int, start: int) -> DataLoader:
        sampler = EpochSampler(len(dataset), seed, start, rank, world_size)
        return DataLoader(
            dataset,
            batch_sampler=BatchSampler(sampler, batch_size, drop_last=True),
            num_workers=num_workers,
            worker_init_fn=init_worker,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        )

    start = start_iteration * accumulate
    if (late_start is None) != (late_crop_size is None and late_batch_size is None):
        raise InputError(
            "dataloader.train: late_start and a late size belong together, got late_start "
            f"{late_start}, late_crop_size {late_crop_size} and late_batch_size {late_batch_size}"
        )
    if late_start is None:
        return loader(dataset, batch_size, start * batch_size * world_size)
    late_dataset = dataset if late_crop_size is None else dataset.with_crop_size(late_crop_size)
    early, late = loader(dataset, batch_size, 0), loader(late_dataset, late_batch_size or batch_size, 0)
    return StagedLoader(early, late, late_start * accumulate, start, world_size)
