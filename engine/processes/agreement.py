"""What one process finds out, for all processes of a job."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from detectron2.utils import comm

from runtime.errors import InputError

Result = TypeVar("Result")

SLICE = 60.0  # seconds after which waiting processes meet: well within the limit of one collective operation


def from_main_process(find: Callable[[], Result]) -> Result:
    """Call `find` in the main process and return its result in all of them; to be called by all.

    It may take as long as it needs: in a job of several processes it runs in a thread of its own, and all meet every
    `SLICE` seconds meanwhile.

    Args:
        find: returns what can be pickled.

    Raises:
        InputError: raised by `find`; in all processes, so that none waits for the others.
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
    """The result, or the mistake, if it is there within a slice."""
    wait([found], SLICE)
    if not found.done():
        return None
    try:
        return found.result(), None
    except InputError as error:
        return None, error
