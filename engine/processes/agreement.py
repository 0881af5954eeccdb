"""Agreement: a result of the main process, returned in all processes of a job."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from detectron2.utils import comm

from runtime.errors import InputError

Result = TypeVar("Result")

SLICE = 60.0  # seconds between exchanges of waiting processes, well below the limit of one collective operation


def from_main_process(find: Callable[[], Result]) -> Result:
    """Call `find` in the main process and return its result in all processes. All processes must call this function.

    The duration of `find` is not limited. In a job of several processes it runs in its own thread, and the processes
    exchange its state every `SLICE` seconds.

    Args:
        find: function with a result that can be pickled.

    Raises:
        InputError: raised by `find`. All processes raise it, so that none waits for the others.
    """
    if comm.get_world_size() == 1:
        return find()
    found = _started(find) if comm.is_main_process() else None
    told = None
    while told is None:
        told = comm.all_gather(_outcome(found) if found else None)[0]
    result, error = told
    if error is not None:
        raise error
    return result


def _started(find: Callable[[], Result]) -> Future[Result]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="main process")
    found = pool.submit(find)
    pool.shutdown(wait=False)
    return found


def _outcome(found: Future[Result]) -> tuple[Result | None, InputError | None] | None:
    """Result or error of `find`; None if it is not available within a slice."""
    wait([found], SLICE)
    if not found.done():
        return None
    try:
        return found.result(), None
    except InputError as error:
        return None, error
