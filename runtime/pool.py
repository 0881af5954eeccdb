"""Work on many images in worker processes that end cleanly: on Ctrl-C, when killed, and when memory runs out."""

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
    """Yield (name, result or why there is none) for each task, as they are done.

    Args:
        tasks: by name, in the order they are begun.
        work: a function that can be pickled; a user's mistake (`InputError`) or a lack of memory is the task's
            own, any other exception ends all.
        num_workers: processes; 0 and 1 stay in this one.
        preload: modules that the work needs, imported once for all processes where the system allows it.
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
    finally:  # also on Ctrl-C: the workers finish the image at hand and take no other; a second one must not cut this
        with _interrupts_held():
            executor.shutdown(cancel_futures=True)


def usable_cpus() -> int:
    """How many processors this process may run on."""
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
        return "not done: a worker process was killed, perhaps for want of memory; use fewer worker processes"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block, and for good from the processes started in it.

    A terminal sends it to all of them: one must not stop half-way through its imports, nor this one half-way
    through starting it.
    """
    held = []
    in_main_thread = threading.current_thread() is threading.main_thread()  # only there Python handles signals
    if in_main_thread:
        handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what the started processes inherit
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the fork server ran already, the mask is not inherited
    cv2.setNumThreads(1)  # the processes are the parallelism


def _follow_parent() -> None:
    """End with the process that started this one, however that ended: nobody would take the results."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _process_context(preload: Sequence[str]) -> multiprocessing.context.BaseContext:
    """Return a context whose workers inherit no threads and no CUDA state, and import only once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
