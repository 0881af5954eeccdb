"""The endless stream of training batches: the same samples for any number of workers, processes and restarts."""

import os
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

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


def build_train_loader(
    dataset: Dataset,
    batch_size: int,
    num_workers: int = 4,
    seed: int = 0,
    start_iteration: int = 0,
    pin_memory: bool | None = None,
) -> DataLoader:
    """Build the endless training loader of this process.

    Args:
        dataset: indexed by (epoch, index), each sample a pure function of them.
        batch_size: samples per process and iteration.
        num_workers: loading processes, at most one for each processor; 0 loads in the training process.
        seed: of the sample order.
        start_iteration: iterations already done, when resuming.
        pin_memory: for faster copies to a GPU; by default where there is one.
    """
    num_workers = min(num_workers, os.cpu_count() or 1)
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    sampler = EpochSampler(len(dataset), seed, start_iteration * batch_size * world_size, rank, world_size)
    return DataLoader(
        dataset,
        batch_sampler=BatchSampler(sampler, batch_size, drop_last=True),
        num_workers=num_workers,
        worker_init_fn=init_worker,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
    )
