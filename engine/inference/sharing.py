"""Sharing of a set of jobs among the processes that torchrun starts, through files in the folder of results.

Process R of N does the jobs R, R + N, R + 2 N and so on. Process 0 checks its arguments and its model and then lists
the jobs. The others wait for this list and compare it with their own. Each process appends the outcome of each job to
its own file, so that a restart by torchrun (`--max-restarts`) does not repeat finished jobs. At the end process 0 waits
for the others, writes one manifest and removes the other files. There is no process group, so the processes need no
connection except the folder.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.inference.jobs import Job, Outcome
from runtime.errors import InputError
from runtime.files import replacing, unfinished_of

MANIFEST = "manifest.json"
WORK_FOLDER = ".shared-"  # followed by a name of the run
POLL = 0.1  # seconds
START_LIMIT = 600.0  # seconds until all processes have started, more than loading a model needs
DONE = ("written", "skipped")


@dataclass(frozen=True)
class Crew:
    """The processes of a run, from torchrun's environment variables; by default a single process.

    Attributes:
        rank, size: number of this process, and number of processes.
        local_rank, local_size: the same numbers on this machine.
        run: name that is unique to the run and common to its processes.
        attempt: number of restarts by torchrun.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    run: str = ""
    attempt: int = 0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Crew":
        """Read RANK, WORLD_SIZE and the related variables. Without them there is a single process.

        Raises:
            InputError: the variables are not numbers that fit together, or several machines have no common run name.
        """
        if not {"RANK", "WORLD_SIZE"} <= environment.keys():
            return cls()
        rank, size = _number(environment, "RANK", 0), _number(environment, "WORLD_SIZE", 1)
        local_size = _number(environment, "LOCAL_WORLD_SIZE", size)
        local_rank = _number(environment, "LOCAL_RANK", rank % max(local_size, 1))
        if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
            raise InputError(
                f"RANK {rank} of WORLD_SIZE {size}, LOCAL_RANK {local_rank} of LOCAL_WORLD_SIZE {local_size}: expected "
                "numbers from 0 to below the sizes; start the processes with torchrun, or unset these variables"
            )
        if size == 1:
            return cls()
        attempt = _number(environment, "TORCHELASTIC_RESTART_COUNT", 0)
        return cls(rank, size, local_rank, local_size, _run_name(environment, size, local_size), attempt)

    @property
    def gpu(self) -> int:
        """Index of this process's GPU. If there are more processes than GPUs, they share GPUs."""
        return self.local_rank % max(torch.cuda.device_count(), 1)

    def device(self, device: torch.device) -> torch.device:
        """Return this process's GPU if `device` is "cuda" without an index, else `device`."""
        if self.size > 1 and device.type == "cuda" and device.index is None:
            return torch.device("cuda", self.gpu)
        return device

    def sharers(self, device: torch.device) -> int:
        """Number of processes that share the memory of `device`."""
        return -(-self.local_size // torch.cuda.device_count()) if device.type == "cuda" else self.local_size


class SharedJobs:
    """This process's share of a set of jobs, and the record of the whole set.

    Args:
        folder: folder for the results of all processes, on a disk that all of them can access.
        crew: crew of more than one process.

    Example:
        shared = SharedJobs("out", Crew.of_environment())
        shared.wait_for_first()
        for outcome in run_jobs(predictor, shared.begin(jobs)):
            shared.record(outcome)
        counts = shared.finish()  # None except in process 0
    """

    def __init__(self, folder: str | os.PathLike, crew: Crew) -> None:
        self.folder, self.crew = Path(folder), crew
        self.work = self.folder / f"{WORK_FOLDER}{crew.run}"
        self.parent = os.getppid()
        self.listed: list[dict[str, Any]] = []
        self.indexes: dict[int, int] = {}  # id of a job -> its index among all jobs
        self.ends = None

    def wait_for_first(self) -> None:
        """Wait, except in process 0, until process 0 has checked its arguments and model, so that it alone reports
        errors.

        Raises:
            InputError: process 0 did not finish within `START_LIMIT`, or the program that started this process ended.
        """
        if self.crew.rank:
            self._wait(lambda: self._list_file.exists(), "process 0 has not listed its jobs", START_LIMIT)

    def begin(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs of this process, without those that an earlier attempt of the same run has done.

        Args:
            jobs: jobs of all processes, the same list in each process.

        Raises:
            InputError: this process lists other jobs than process 0, or the folder cannot be written to.
        """
        self.listed = [
            {"image": str(job.inputs["image"]), "outputs": {kind: str(path) for kind, path in job.outputs.items()}}
            for job in jobs
        ]
        if self.crew.rank == 0:
            self._clear()
            with replacing(self._list_file) as temporary:
                temporary.write_text(json.dumps(self.listed))
        elif json.loads(self._list_file.read_text()) != self.listed:
            raise InputError(
                f"process {self.crew.rank} lists {len(self.listed)} other jobs than process 0; all processes need the "
                "same files and arguments"
            )
        done = {index for index, end in self._ended().items() if end["status"] in DONE}
        self.ends = open(self._file_of("ends", self.crew.rank), "a", encoding="utf-8")  # noqa: SIM115
        own = [index for index in range(self.crew.rank, len(jobs), self.crew.size) if index not in done]
        self.indexes = {id(jobs[index]): index for index in own}
        return [jobs[index] for index in own]

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a job."""
        end = {"job": self.indexes[id(outcome.job)], "status": outcome.status, "remark": outcome.remark}
        self.ends.write(json.dumps(end) + "\n")
        self.ends.flush()

    def finish(self) -> Counter[str] | None:
        """Wait for the other processes and write the manifest, in process 0.

        Returns:
            Number of jobs of all processes with each status; None in the other processes.

        Raises:
            InputError: another process has not started, or the program that started the processes ended.
        """
        self.ends.close()
        self._file_of("done", self.crew.rank).touch()
        if self.crew.rank:
            return None
        others = range(1, self.crew.size)
        for rank in others:
            self._wait(self._file_of("ends", rank).exists, f"process {rank} has not begun", START_LIMIT)
        for rank in others:
            self._wait(self._file_of("done", rank).exists)
        ended = self._ended()
        counts = Counter(ended[index]["status"] for index in range(len(self.listed)))
        jobs = [
            {**job, "status": ended[index]["status"], "remark": ended[index]["remark"]}
            for index, job in enumerate(self.listed)
        ]
        with replacing(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps({"processes": self.crew.size, "counts": counts, "jobs": jobs}, indent=1))
        outputs = [output for job in self.listed for output in job["outputs"].values()]
        for leftover in itertools.chain.from_iterable(map(unfinished_of, outputs)):
            leftover.unlink(missing_ok=True)  # of a process that was killed: all others have ended
        shutil.rmtree(self.work, ignore_errors=True)
        return counts

    @property
    def _list_file(self) -> Path:
        return self.work / f"jobs-{self.crew.attempt}.json"

    def _file_of(self, what: str, rank: int) -> Path:
        return self.work / f"{what}-{self.crew.attempt}-{rank}"

    def _ended(self) -> dict[int, dict[str, Any]]:
        """Last outcome of each job, by its index. An incomplete line of a killed process is ignored."""
        ended = {}
        for path in sorted(self.work.glob("ends-*"), key=_attempt_of):
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    end = json.loads(line)
                    ended[end["job"]] = end
        return ended

    def _clear(self) -> None:
        """Remove the files of killed runs and, on the first attempt, files under this run's name."""
        for path in self.folder.glob(f"{WORK_FOLDER}*"):
            if (path == self.work and self.crew.attempt == 0) or _is_of_dead_run(path.name.removeprefix(WORK_FOLDER)):
                shutil.rmtree(path, ignore_errors=True)

    def _wait(self, is_met: Callable[[], bool], problem: str = "", limit: float = float("inf")) -> None:
        end = time.monotonic() + limit
        while not is_met():
            if os.getppid() != self.parent:
                raise InputError("the program that started this process is gone; start all processes again")
            if time.monotonic() > end:
                raise InputError(
                    f"{self.folder}: {problem} for {limit:.0f} seconds; start all processes with torchrun, with the "
                    "same arguments and a folder that all see, or unset RANK and WORLD_SIZE"
                )
            time.sleep(POLL)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal():
        raise InputError(f"{name}: expected a number, as torchrun sets it, got {text!r}; unset it to run alone")
    return int(text)


def _run_name(environment: Mapping[str, str], size: int, local_size: int) -> str:
    if size == local_size:
        return f"{socket.gethostname()}-{os.getppid()}"  # torchrun's process, one for all
    name = environment.get("TORCHELASTIC_RUN_ID", "none")
    if name == "none":
        raise InputError(
            "torchrun on several machines: give --rdzv-id NAME, the same on each and a new one for each run, so that "
            "the processes find each other in the folder of results"
        )
    return hashlib.sha256(
        f"{name} {environment.get('MASTER_ADDR')} {environment.get('MASTER_PORT')}".encode()
    ).hexdigest()[:16]


def _is_of_dead_run(run: str) -> bool:
    host, _, process = run.rpartition("-")
    if host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _attempt_of(path: Path) -> int:
    return int(path.name.split("-")[1])
