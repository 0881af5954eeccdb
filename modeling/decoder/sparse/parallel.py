"""Threads for independent pieces of work on all cores."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def num_threads(device: torch.device) -> int:
    """Number of items that `for_each` processes at once."""
    return torch.get_num_threads() if device.type == "cpu" else 1


class Workers:
    """Threads for several rounds of work, on a CPU as many as torch has. A context manager.

    torch's own threads share every operation and synchronise at its end. For operations of about a millisecond this is
    slow if the cores are busy, because another process delays all threads. Inside the context each operation therefore
    uses one thread, in the calling thread too.

    Attributes:
        threads: number of items that are processed at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.threads = num_threads(device)
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.threads > 1:
            self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
            torch.set_num_threads(1)
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self.threads)

    def for_each(self, function: Callable[[T], None], items: Iterable[T]) -> None:
        """Call `function` with every item, with as many calls at once as there are threads."""
        if self._pool is None:
            deque(map(function, items), maxlen=0)
            return
        items = list(items)
        inference = torch.is_inference_mode_enabled()  # a property of the thread, like gradient mode

        def call(item: T) -> None:
            with torch.inference_mode(inference), torch.no_grad():
                function(item)

        deque(self._pool.map(call, items), maxlen=0)


def for_each(function: Callable[[T], None], items: Iterable[T], device: torch.device) -> None:
    """Call `function` with every item; on a CPU with as many calls at once as torch has threads."""
    if num_threads(device) > 1:
        items = list(items)  # evaluated while this thread still has torch's number of threads
    with Workers(device) as workers:
        workers.for_each(function, items)
