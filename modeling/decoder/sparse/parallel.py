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


def for_each(function: Callable[[T], None], items: Iterable[T], device: torch.device) -> None:
    """Call `function` with every item; on a CPU with as many items at once as torch has threads, one thread each.

    Torch's own threads divide every operation, and wait for each other at its end. Where operations take a
    millisecond, that costs much when the cores are not free: any other process holds up all threads.
    """
    threads = num_threads(device)
    if threads == 1:
        deque(map(function, items), maxlen=0)
        return
    items = list(items)  # while this thread still has torch's number of threads
    inference = torch.is_inference_mode_enabled()  # belongs to a thread, as gradient mode does

    def call(item: T) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            function(item)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            deque(pool.map(call, items), maxlen=0)
    finally:
        torch.set_num_threads(threads)  # what the workers set is in part the whole process's
