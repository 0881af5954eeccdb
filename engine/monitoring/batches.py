"""Observation of the loader of a run: the number of samples, the waiting time, and the first batch."""

import time
from collections.abc import Iterable, Iterator
from typing import Any


class ObservedBatches:
    """The batches of another iterable, unchanged.

    Args:
        batches: dicts of tensors whose first axis is the sample.

    Attributes:
        num_samples: number of samples drawn so far.
        waited: seconds spent waiting for them.
        first: the first batch, until it is set to None.
    """

    def __init__(self, batches: Iterable[dict[str, Any]]) -> None:
        self.batches = batches
        self.num_samples = 0
        self.waited = 0.0
        self.first: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        iterator = iter(self.batches)
        while True:
            started = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                return
            self.waited += time.perf_counter() - started
            if not self.num_samples:
                self.first = batch
            self.num_samples += len(batch["image"])
            yield batch
