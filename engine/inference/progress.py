"""Progress of jobs on the terminal: a bar, errors and warnings, the mode used, and the counts at the end.

tqdm is imported when a bar is shown, because an ONNX file can be run without it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from data.images.files import passed_over
from data.images.remarks import Remark, counted
from engine.inference.jobs import Job, Outcome
from engine.inference.sharing import SharedJobs
from runtime.command_line import tell
from runtime.text import printable, summary

if TYPE_CHECKING:
    from engine.inference.predict import Plan


def do_jobs(
    run: Callable[[Sequence[Job]], Iterator[Outcome]],
    jobs: Sequence[Job],
    place: str | os.PathLike,
    where: str,
    shared: SharedJobs | None = None,
) -> int:
    """Do jobs, or this process's share of them, with a record and messages as in every program.

    Args:
        run: function that does jobs and yields their outcomes, such as `run_jobs` for a predictor.
        place: folder or file of the results, for the last message.
        where: device, for the last message.
        shared: record of the jobs of a folder; None for a single picture.

    Returns:
        Exit status: in process 0, 2 if a picture of any process failed, else 0; in the other processes 0.

    Raises:
        InputError: a file cannot be written; see `SharedJobs`.
    """
    rank, size = (0, 1) if shared is None else (shared.crew.rank, shared.crew.size)
    own = jobs if shared is None else shared.begin(jobs)
    counts, read_as = Counter(), []
    for outcome in shown(run(own), len(own), quiet=rank > 0):
        counts[outcome.status] += 1
        read_as += outcome.read_as
        if shared is not None:
            shared.record(outcome)
    tell_reading(read_as)
    if shared is not None:
        counts = shared.finish()
    if counts is None:  # process 0 reports for all
        return 0
    print(printable(f"{place}: {summary(counts)}, on {where}" + f", by {size} processes" * (size > 1)))
    return 2 if counts["failed"] else 0


def shown(outcomes: Iterator[Outcome], total: int, quiet: bool = False) -> Iterator[Outcome]:
    """Yield the outcomes of `total` jobs, and show a bar (unless `quiet`), errors and warnings on stderr.

    There is no bar if tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    bar = nullcontext() if tqdm is None else tqdm(total=total, unit="image", disable=quiet or None)
    with closing(outcomes), bar as progress:
        for outcome in outcomes:
            tell_outcome(outcome, print if progress is None else progress.write)
            if progress is not None:
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
