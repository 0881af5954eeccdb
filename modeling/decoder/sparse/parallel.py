"""Independent pieces of work on all cores."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def num_threads(device: torch.device) -> int:
    """How many items `for_each` works on at once."""
    return torch.get_num_threads() if device.type == "cpu" else 1


class Workers:
    """Threads for several rounds of work, one for each of torch's on a CPU; a context to work in.

    Torch's own threads divide every operation, and wait for each other at its end. Where operations take a
    millisecond, that costs much when the cores are not free: any other process holds up all threads. So there is one
    thread for an operation meanwhile, in this thread too.

    Attributes:
        threads: how many items are worked on at once.
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
        """Call `function` with every item, with as many at once as there are threads."""
        if self._pool is None:
            deque(map(function, items), maxlen=0)
            return
        items = list(items)
        inference = torch.is_inference_mode_enabled()  # belongs to a thread, as gradient mode does

        def call(item: T) -> None:
            with torch.inference_mode(inference), torch.no_grad():
                function(item)

        deque(self._pool.map(call, items), maxlen=0)


def for_each(function: Callable[[T], None], items: Iterable[T], device: torch.device) -> None:
    """Call `function` with every item; on a CPU with as many at once as torch has threads."""
    if num_threads(device) > 1:
        items = list(items)  # while this thread still has torch's number of threads
    with Workers(device) as workers:
        workers.for_each(function, items)
