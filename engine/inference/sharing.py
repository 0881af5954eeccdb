"""Sharing of a set of jobs among the processes that torchrun starts, through files in the folder of results.

Process R of N does the jobs R, R + N, R + 2 N and so on. Process 0 checks its arguments and its model and then lists
the jobs. The others wait for this list and compare it with their own. Each process appends the outcome of each job to
its own file, so that a restart by torchrun (`--max-restarts`) does not repeat finished jobs. At the end process 0 waits
for the others, writes one manifest and removes the other files. Each process also touches a file every few seconds, so
that process 0 does not wait for a machine that is gone. There is no process group, so the processes need no connection
except the folder.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.inference.jobs import Job, Outcome
from engine.inference.manifest import end_of, entries_of, write_manifest
from runtime.command_line import Terminated, signal_of
from runtime.errors import InputError
from runtime.files import replacing

WORK_FOLDER = ".shared-"  # followed by a name of the run
POLL = 0.1  # seconds
START_LIMIT = 600.0  # seconds until all processes have started, more than loading a model needs
BEAT = 5.0  # seconds between signs of life
SILENCE_LIMIT = 300.0  # seconds without a sign of life; NFS shows a file's time up to 60 seconds late
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
        self.ended = threading.Event()

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
        self.listed = entries_of(jobs)
        if self.crew.rank == 0:
            if self.crew.attempt == 0:
                shutil.rmtree(self.work, ignore_errors=True)  # of a killed run with this run's name
            with replacing(self._list_file) as temporary:
                temporary.write_text(json.dumps(self.listed))
        elif json.loads(self._list_file.read_text()) != self.listed:
            raise InputError(
                f"process {self.crew.rank} lists {len(self.listed)} other jobs than process 0; all processes need the "
                "same files and arguments"
            )
        threading.Thread(target=self._give_signs_of_life, name="signs of life", daemon=True).start()
        done = {index for index, end in self._ended().items() if end["status"] in DONE}
        self.ends = open(self._file_of("ends", self.crew.rank), "a", encoding="utf-8")  # noqa: SIM115
        own = [index for index in range(self.crew.rank, len(jobs), self.crew.size) if index not in done]
        self.indexes = {id(jobs[index]): index for index in own}
        return [jobs[index] for index in own]

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a job."""
        end = {"job": self.indexes[id(outcome.job)], **end_of(outcome)}
        self.ends.write(json.dumps(end) + "\n")
        self.ends.flush()

    def finish(self) -> Counter[str] | None:
        """Wait for the other processes and write the manifest, in process 0.

        Returns:
            Number of jobs of all processes with each status; None in the other processes.

        Raises:
            InputError: another process has not started or gives no sign of life, or the program that started the
                processes ended.
        """
        self.ends.close()
        self.ended.set()
        self._file_of("done", self.crew.rank).touch()
        if self.crew.rank:
            return None
        others = range(1, self.crew.size)
        for rank in others:
            self._wait(self._file_of("ends", rank).exists, f"process {rank} has not begun", START_LIMIT)
        self._wait_for_ends(others)
        counts = write_manifest(self.folder, self.listed, self._ended(), self.crew.size)
        self._remove_dead_runs()
        shutil.rmtree(self.work, ignore_errors=True)
        return counts

    @contextlib.contextmanager
    def one_voice(self) -> Iterator[None]:
        """Let a single process report that a signal stopped the processes: the first one that it reaches."""
        try:
            yield
        except (KeyboardInterrupt, Terminated) as stop:
            if not self._is_first_to_stop():
                raise SystemExit(128 + signal_of(stop)) from None
            raise

    def _is_first_to_stop(self) -> bool:
        try:
            self._file_of("stopped", "").touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # there is no list of jobs yet
            return self.crew.rank == 0
        return True

    @property
    def _list_file(self) -> Path:
        return self.work / f"jobs-{self.crew.attempt}.json"

    def _file_of(self, what: str, rank: int | str) -> Path:
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

    def _give_signs_of_life(self) -> None:
        alive = self._file_of("alive", self.crew.rank)
        with contextlib.suppress(OSError):  # process 0 has removed the folder, or the disk is gone
            alive.touch()
            while not self.ended.wait(BEAT):
                os.utime(alive)

    def _wait_for_ends(self, ranks: Iterable[int]) -> None:
        """Wait until processes have done their jobs. Changes of a file's time count, so clocks may differ."""
        seen: dict[int, tuple[int, float]] = {}  # of each process: time of its file, and when that was first seen

        def are_done() -> bool:
            waiting = [rank for rank in ranks if not self._file_of("done", rank).exists()]
            for rank in waiting:
                alive = self._file_of("alive", rank)
                sign = alive.stat().st_mtime_ns if alive.exists() else 0
                if rank not in seen or seen[rank][0] != sign:
                    seen[rank] = sign, time.monotonic()
                elif time.monotonic() > seen[rank][1] + SILENCE_LIMIT:
                    raise InputError(
                        f"{self.folder}: process {rank} has given no sign of life for {SILENCE_LIMIT:.0f} seconds; is "
                        "its machine still there? The same command with --skip-existing continues"
                    )
            return not waiting

        self._wait(are_done)

    def _remove_dead_runs(self) -> None:
        """Remove the files of earlier runs that were killed."""
        now = self._file_of("done", self.crew.rank).stat().st_mtime  # by the clock of the disk
        for folder in self.folder.glob(f"{WORK_FOLDER}*"):
            if folder != self.work and _is_of_dead_run(folder, now):
                shutil.rmtree(folder, ignore_errors=True)

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


def _is_of_dead_run(work: Path, now: float) -> bool:
    """Return whether the launcher is gone, or for a run on several machines, whether all processes are silent."""
    host, _, process = work.name.removeprefix(WORK_FOLDER).rpartition("-")
    if host != socket.gethostname() or not process.isdecimal():
        return max((path.stat().st_mtime for path in work.iterdir()), default=0) < now - SILENCE_LIMIT
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _attempt_of(path: Path) -> int:
    return int(path.name.split("-")[1])
