"""Matte a folder of pictures with Ray Data, which shares the pictures among processes and machines.

    pip install -r requirements/ray.txt
    python tools/ray_matting.py --image DIR --trimap DIR --output DIR [--checkpoint CKPT] [--actors N] [--address auto]

Each Ray actor loads a `Matting` object once and applies it to batches of pictures. The files are those of inference.py,
byte for byte, with a manifest. By default Ray starts on this machine and ends with the program. On a
cluster every machine needs the project and the folders at the same paths. See docs/serving.md.
"""

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.inference import Crew, Job, Matting, Outcome, SharedJobs, fit_to, plan_files
from engine.inference.manifest import entries_of, remove_unfinished
from engine.inference.progress import shown, tell_passed_over, tell_reading
from runtime.command_line import resumable, run, unwinding
from runtime.errors import InputError
from runtime.memory import keep_freed_memory, parse_bytes
from runtime.text import one_line, printable, summary

ROOT = Path(__file__).resolve().parents[1]
LOCAL = "local"  # Ray's name for a Ray of its own on this machine
BATCH = 8  # pictures: within a batch, reading and writing overlap with predicting; a killed actor repeats its batch


class MattePictures:
    """Actor of Ray Data: a `Matting` that is loaded once, and called with batches of jobs.

    Args:
        settings: arguments of `Matting`.
        skip_existing: whether jobs whose outputs exist are skipped.
    """

    def __init__(self, settings: Mapping[str, Any], skip_existing: bool) -> None:
        self.settings, self.skip_existing = settings, skip_existing
        self.matting: Matting | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do the jobs of a batch, and return their outcomes, or the error that ends the run in place of each."""
        outcomes = np.empty(len(batch["job"]), object)
        try:
            if self.matting is None:
                keep_freed_memory()
                self.matting = Matting(**self.settings)
            outcomes[:] = self.matting.run_jobs(list(batch["job"]), self.skip_existing)
        except InputError as error:  # if it left the actor, Ray would print tracebacks and lose its type
            outcomes[:] = InputError(str(error))
        return {"index": batch["index"], "outcome": outcomes}


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    ray = imported_ray()
    jobs = planned(options)
    tell_passed_over([options.image, options.trimap])
    shared, read_as = SharedJobs(options.output, Crew()), []
    with shared.one_voice(), resumable(options.output):
        try:
            with started(ray, options.address):
                actors, sharers = places(options, ray.nodes())
                settings = {
                    "checkpoint": options.checkpoint,
                    "device": None if options.gpus else "cpu",  # Ray need not hide GPUs from other actors
                    "max_memory": options.max_memory,
                    "sharers": sharers,
                }
                rows = ray.data.from_items(
                    [{"index": index, "job": job} for index, job in enumerate(jobs)],
                    override_num_blocks=math.ceil(len(jobs) / BATCH),
                ).map_batches(
                    MattePictures,
                    fn_constructor_args=(settings, options.skip_existing),
                    batch_size=BATCH,
                    batch_format="numpy",
                    compute=ray.data.ActorPoolStrategy(size=actors),
                    num_cpus=options.cpus,
                    num_gpus=options.gpus,
                )
                shared.begin(jobs)
                for outcome in shown(outcomes_of(rows, jobs), len(jobs)):
                    read_as += outcome.read_as
                    shared.record(outcome)
        finally:
            remove_unfinished(entries_of(jobs))  # of actors that were killed
        tell_reading(read_as)
        counts = shared.finish(actors)
    print(printable(f"{options.output}: {summary(counts)}, by {actors} actors of Ray"))
    return 2 if counts["failed"] else 0


def imported_ray():
    """Import `ray`, and configure it to print only Python errors and to send no usage statistics.

    Raises:
        InputError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its folder of logs has the rest
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; run: pip install -r requirements/ray.txt") from error
    return ray


def planned(options: argparse.Namespace) -> list[Job]:
    """The jobs, which fit the model. A file that cannot be used is refused before Ray starts."""
    if not os.path.isdir(options.image):
        raise InputError(f"{options.image}: expected a folder of pictures; inference.py does a single one")
    jobs = plan_files(options.image, options.trimap, options.output)
    return fit_to(jobs, Matting(options.checkpoint, "cpu").model, folder=options.output)


@contextmanager
def started(ray, address: str) -> Iterator[None]:
    """Start Ray, or join a cluster, and leave it at the end."""
    unwind = signal.getsignal(signal.SIGTERM)  # Ray sets a handler of its own
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
    except Exception as error:  # Ray raises just that if a busy machine does not start it within 30 seconds
        raise InputError(f"--address {address}: cannot start or join Ray: {one_line(error)}") from error
    try:
        signal.signal(signal.SIGTERM, unwind)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
    finally:
        ray.shutdown()


def places(options: argparse.Namespace, machines: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Number of actors, and of those that share the memory of one processor or GPU.

    Raises:
        InputError: Ray has fewer resources than the options request.
    """
    wanted = {"CPU": options.cpus, "GPU": options.gpus}
    rooms = [
        min(int(machine["Resources"].get(kind, 0) / amount) for kind, amount in wanted.items() if amount)
        for machine in machines
        if machine["Alive"]
    ]
    actors = sum(rooms) if options.actors is None else options.actors
    if not 1 <= actors <= sum(rooms):
        raise InputError(
            f"--actors: Ray has room for {sum(rooms)} actors of {options.cpus:g} CPUs and {options.gpus:g} GPUs, and "
            f"{max(actors, 1)} were requested; change --actors, --cpus or --gpus"
        )
    return actors, math.ceil(1 / options.gpus) if options.gpus else min(actors, max(rooms))


def outcomes_of(rows, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Yield the outcomes of a data set as they arrive, each with its job in `jobs` in place of the actor's copy.

    Raises:
        InputError: the error that ended an actor's batch.
    """
    for row in rows.iter_rows():
        if isinstance(row["outcome"], InputError):
            raise row["outcome"]
        yield replace(row["outcome"], job=jobs[row["index"]])


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    # Absolute paths, because actors have another working directory.
    path = os.path.abspath
    parser.add_argument("--image", required=True, type=path, help="folder of images")
    parser.add_argument("--trimap", type=path, help="folder of trimaps with the same names, or one for all images")
    parser.add_argument("--output", required=True, type=path, help="folder for NAME.png and manifest.json")
    parser.add_argument("--checkpoint", type=path, metavar="CKPT", help="matting model (default: the model in the box)")
    parser.add_argument(
        "--actors", type=int, metavar="N", help="number of actors (default: as many as Ray has room for)"
    )
    parser.add_argument(
        "--cpus", type=float, default=1, metavar="N", help="CPUs, and threads, of an actor (default: 1)"
    )
    parser.add_argument(
        "--gpus", type=float, default=0, metavar="N", help="GPUs of an actor, or a part of one, such as 0.5"
    )
    parser.add_argument(
        "--max-memory",
        metavar="AMOUNT",
        help="memory limit of an actor, such as 4GB (default: its share of what is free)",
    )
    parser.add_argument("--address", default=LOCAL, help="cluster to use: auto, or HOST:PORT (default: start Ray here)")
    parser.add_argument("--skip-existing", action="store_true", help="keep existing outputs")
    options = parser.parse_args(arguments)
    for name in ("cpus", "gpus"):
        if not 0 <= getattr(options, name) < math.inf:
            raise InputError(f"--{name}: expected 0 or more, got {getattr(options, name):g}")
    if options.cpus + options.gpus == 0:
        raise InputError("--cpus and --gpus: an actor needs one of them, got 0 and 0")
    options.max_memory = None if options.max_memory is None else parse_bytes(options.max_memory)
    return options


if __name__ == "__main__":
    with unwinding():
        run(main)
