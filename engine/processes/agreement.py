"""What one process finds out, for all processes of a job."""

from collections.abc import Callable
from typing import TypeVar

from detectron2.utils import comm

from data.errors import InputError

Result = TypeVar("Result")


def from_main_process(find: Callable[[], Result]) -> Result:
    """Call `find` in the main process and return its result in all of them; to be called by all.

    Args:
        find: returns what can be pickled.

    Raises:
        InputError: raised by `find`; in all processes, so that none waits for the others.
    """
    outcome: Result | InputError | None = None
    if comm.is_main_process():
        try:
            outcome = find()
        except InputError as error:
            outcome = error
    outcome = comm.all_gather(outcome)[0]
    if isinstance(outcome, InputError):
        raise outcome
    return outcome
