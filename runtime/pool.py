"""Worker processes for many images, which end cleanly on Ctrl-C, when killed, and when memory is exhausted."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from runtime.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def outcomes(
    tasks: Mapping[str, Task], work: Callable[[Task], Result], num_workers: int, preload: Sequence[str] = ()
) -> Iterator[tuple[str, Result | str]]:
    """Yield (name, result or reason of a failure) for each task in the order of completion.

    Args:
        tasks: tasks by name, in the order in which they are started.
        work: function that can be pickled. InputError and MemoryError belong to the task; any other exception ends all
            tasks.
        num_workers: number of processes; 0 and 1 use this process.
        preload: modules for the work, imported once for all processes if the system allows it.
    """
    if num_workers <= 1 or not tasks:
        for name, task in tasks.items():
            yield name, _attempt(work, name, task)
        return
    executor = ProcessPoolExecutor(
        min(num_workers, len(tasks)), mp_context=_process_context(preload), initializer=_prepare_worker
    )
    try:
        with _interrupts_held():
            futures = {executor.submit(_attempt, work, name, task): name for name, task in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], _result(future)
    finally:  # on Ctrl-C too, workers finish their image and take no other; a second Ctrl-C must not interrupt this
        with _interrupts_held():
            executor.shutdown(cancel_futures=True)


def usable_cpus() -> int:
    """Number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _attempt(work: Callable[[Task], Result], name: str, task: Task) -> Result | str:
    try:
        return work(task)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{name}: not enough memory for it; use fewer worker processes"


def _result(future: Future) -> Result | str:
    try:
        return future.result()
    except BrokenProcessPool:
        return "not done: a worker process was killed, perhaps for lack of memory; use fewer worker processes"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block, and block it permanently in the processes started inside.

    A terminal sends Ctrl-C to all processes. It must interrupt neither the imports of a worker nor this process while
    it starts workers.
    """
    held = []
    in_main_thread = threading.current_thread() is threading.main_thread()  # Python handles signals only there
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # started processes inherit the mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(*held[0])


def _prepare_worker() -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the mask is not inherited if the fork server was already running
    cv2.setNumThreads(1)  # the processes provide the parallelism


def _follow_parent() -> None:
    """End when the parent process ends for any reason, as nobody would use the results."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _process_context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """A context whose workers inherit no threads and no CUDA state, and import modules only once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
