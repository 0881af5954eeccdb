"""Progress of jobs on the terminal: a bar, errors and warnings, and the mode used."""

from collections.abc import Callable, Iterator
from contextlib import closing

from tqdm import tqdm

from engine.inference.jobs import Job, Outcome
from engine.inference.predict import Plan
from runtime.command_line import tell


def shown(outcomes: Iterator[Outcome], total: int, quiet: bool = False) -> Iterator[Outcome]:
    """Yield the outcomes of `total` jobs, and show a bar (unless `quiet`), errors and warnings on stderr."""
    with closing(outcomes), tqdm(total=total, unit="image", disable=quiet or None) as progress:
        for outcome in outcomes:
            if outcome.remark and outcome.status != "skipped":
                label = "error" if outcome.status == "failed" else "warning"
                tell(f"{label}: {outcome.remark}", progress.write)
            progress.update()
            yield outcome


def announcer() -> Callable[[Job, Plan], None]:
    """A function that prints the plan of a picture if it differs from the plan of the picture before."""
    announced = ""

    def announce(job: Job, plan: Plan) -> None:
        nonlocal announced
        if str(plan) != announced:
            announced = str(plan)
            tell(f"{job.inputs['image']}: predicting {plan}", tqdm.write)

    return announce
