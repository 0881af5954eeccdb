"""Progress of jobs on the terminal: a bar, errors and warnings, and the mode used.

tqdm is imported when a bar is shown, because an ONNX file can be run without it.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from data.images.files import passed_over
from data.images.remarks import Remark, counted
from engine.inference.jobs import Job, Outcome
from runtime.command_line import tell

if TYPE_CHECKING:
    from engine.inference.predict import Plan


def shown(outcomes: Iterator[Outcome], total: int, quiet: bool = False) -> Iterator[Outcome]:
    """Yield the outcomes of `total` jobs, and show a bar (unless `quiet`), errors and warnings on stderr."""
    from tqdm import tqdm

    with closing(outcomes), tqdm(total=total, unit="image", disable=quiet or None) as progress:
        for outcome in outcomes:
            tell_outcome(outcome, progress.write)
            progress.update()
            yield outcome


def tell_outcome(outcome: Outcome, write: Callable[..., None] = print) -> None:
    """Print why a job failed, or a warning about its result."""
    if outcome.remark and outcome.status != "skipped":
        tell(f"{'error' if outcome.status == 'failed' else 'warning'}: {outcome.remark}", write)


def tell_reading(remarks: Iterable[Remark]) -> None:
    """Print remarks on files that were read in an unusual way, one line for each kind."""
    for line in counted(remarks):
        tell(f"warning: {line}")


def tell_passed_over(inputs: Iterable[str | os.PathLike | None], recursive: bool = True) -> None:
    """Warn about files in the input folders that are not read; without `recursive`, also about sub-folders.

    Args:
        inputs: files and folders that a command names; None for an option that is not given. Files are left out.
    """
    for path in inputs:
        if path is not None and os.path.isdir(path) and (left := passed_over(path, recursive)):
            tell(f"warning: {path}: {left}")


def announcer() -> Callable[[Job, "Plan"], None]:
    """Return a function that prints the plan of a picture if it differs from the plan of the picture before."""
    from tqdm import tqdm

    announced = ""

    def announce(job: Job, plan: "Plan") -> None:
        nonlocal announced
        if str(plan) != announced:
            announced = str(plan)
            tell(f"{job.inputs['image']}: predicting {plan}", tqdm.write)

    return announce
