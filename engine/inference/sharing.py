"""The record of a set of jobs, and their sharing among the processes that torchrun starts.

A single process is the simplest case. Everything happens through files in a hidden folder in the folder of results.

Process R of N does the jobs R, R + N, R + 2 N and so on. Process 0 checks its arguments and its model and then lists
the jobs. The others wait for this list and compare it with their own. The folder may still hold the list of an earlier
run with the same name, so each process leaves a file with a new random token, and reads the list only after process 0
has answered with this token. Each process appends the outcome of each job to its own file, so that a restart by
torchrun (`--max-restarts`) does not repeat finished jobs. At the end process 0 waits for the others, writes one
manifest and removes the other files. If a run was killed, the next one adds its outcomes to the manifest. Each process
also touches a file every few seconds, so that process 0 does not wait for a machine that is gone. There is no process
group, so the processes need no connection except the folder.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.inference.jobs import Job, Outcome
from engine.inference.manifest import DONE, MANIFEST, end_of, entries_of, read_manifest, write_manifest
from runtime.command_line import Terminated, signal_of
from runtime.errors import InputError
from runtime.files import mark_unfinished, replacing

if TYPE_CHECKING:  # which an ONNX file does without
    import torch

WORK_FOLDER = ".shared-"  # followed by a name of the run
POLL = 0.1  # seconds
START_LIMIT = 600.0  # seconds until all processes have started, more than loading a model needs
BEAT = 5.0  # seconds between signs of life
SILENCE_LIMIT = 300.0  # seconds without a sign of life; NFS shows a file's time up to 60 seconds late


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
        import torch

        return self.local_rank % max(torch.cuda.device_count(), 1)

    def device(self, device: "torch.device") -> "torch.device":
        """Return this process's GPU if `device` is "cuda" without an index, else `device`."""
        import torch

        if self.size > 1 and device.type == "cuda" and device.index is None:
            return torch.device("cuda", self.gpu)
        return device

    def sharers(self, device: "torch.device") -> int:
        """Number of processes that share the memory of `device`."""
        import torch

        return -(-self.local_size // torch.cuda.device_count()) if device.type == "cuda" else self.local_size


class SharedJobs:
    """This process's share of a set of jobs, and the record of the whole set.

    Args:
        folder: folder for the results of all processes, on a disk that all of them can access.
        crew: processes of the run.

    Example:
        shared = SharedJobs("out", Crew.of_environment())
        shared.wait_for_first()
        for outcome in run_jobs(predictor, shared.begin(jobs)):
            shared.record(outcome)
        counts = shared.finish()  # None except in process 0
    """

    def __init__(self, folder: str | os.PathLike, crew: Crew) -> None:
        self.folder, self.crew = Path(folder), crew
        self.token = secrets.token_hex(16)
        self.work = self.folder / f"{WORK_FOLDER}{crew.run or f'{socket.gethostname()}-{os.getpid()}.{self.token}'}"
        self.parent = os.getppid()
        self.listed: list[dict[str, Any]] = []
        self.indexes: dict[int, int] = {}  # id of a job -> its index among all jobs
        self.ends = None
        self.ended, self.finished = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []  # which write files until these events

    def wait_for_first(self) -> None:
        """Wait, except in process 0, until process 0 has checked its arguments and model, so that it alone reports
        errors. Process 0 removes what a killed run with this run's name has left.

        Raises:
            InputError: process 0 did not finish within `START_LIMIT`, the program that started this process ended, or
                the folder cannot be read.
        """
        if self.crew.rank:
            self._wait(self._is_answered, "process 0 has not listed its jobs", START_LIMIT)
        elif self.crew.attempt == 0:
            try:
                self._close(self.work)
            except OSError as error:
                raise InputError(f"{self.folder}: {error.strerror}") from error

    def _is_answered(self) -> bool:
        """Leave this process's token, again if process 0 has removed the files of an earlier run."""
        if not self._list_file.exists():  # before the arguments are checked there may be no folder
            return False
        with contextlib.suppress(OSError):
            self._file_of("asked", self.token).touch()
        return self._file_of("answered", self.token).exists()

    def begin(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs of this process, without those that an earlier attempt of the same run has done.

        Args:
            jobs: jobs of all processes, the same list in each process.

        Raises:
            InputError: this process lists other jobs than process 0, or the folder cannot be written to.
        """
        self.listed = entries_of(jobs)
        if self.crew.rank == 0:
            read_manifest(self.folder)  # now, so that a file that is no manifest is refused before the work
        if self.crew.size == 1:
            mark_unfinished(self.work)
            self._create_work_folder()
        elif self.crew.rank == 0:
            with replacing(self._list_file) as temporary:
                temporary.write_text(json.dumps(self.listed))
            self._start(self._answer, "answers")
        elif json.loads(self._list_file.read_text()) != self.listed:
            raise InputError(
                f"process {self.crew.rank} lists {len(self.listed)} other jobs than process 0; all processes need the "
                "same files and arguments"
            )
        self._start(self._give_signs_of_life, "signs of life")
        done = {index for index, end in _ended_in(self.work).items() if end["status"] in DONE}
        self.ends = open(self._file_of("ends", self.crew.rank), "a", encoding="utf-8")  # noqa: SIM115
        if self.crew.rank == 0:
            self._close_dead_runs()
        own = [index for index in range(self.crew.rank, len(jobs), self.crew.size) if index not in done]
        self.indexes = {id(jobs[index]): index for index in own}
        return [jobs[index] for index in own]

    def _start(self, function: Callable[[], None], name: str) -> None:
        self.threads.append(threading.Thread(target=function, name=name, daemon=True))
        self.threads[-1].start()

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a job."""
        index = self.indexes[id(outcome.job)]
        self.ends.write(json.dumps({"job": index, **self.listed[index], **end_of(outcome)}) + "\n")
        self.ends.flush()

    def finish(self, processes: int | None = None) -> Counter[str] | None:
        """Wait for the other processes and write the manifest, in process 0.

        Args:
            processes: number of processes in the manifest; None for those of the crew.

        Returns:
            Number of jobs of all processes with each status; None in the other processes.

        Raises:
            InputError: another process has not started or gives no sign of life, or the program that started the
                processes ended.
        """
        try:
            return self._finish(processes or self.crew.size)
        finally:
            self.finished.set()

    def _finish(self, processes: int) -> Counter[str] | None:
        self.ends.close()
        self.ended.set()
        if self.crew.rank:
            self._wait_for_threads()
            self._file_of("done", self.crew.rank).touch()
            return None
        others = range(1, self.crew.size)
        for rank in others:
            self._wait(self._file_of("ends", rank).exists, f"process {rank} has not begun", START_LIMIT)
        self._wait_for_ends(others)
        self.finished.set()
        self._wait_for_threads()
        try:
            counts = write_manifest(self.folder, self.listed, _ended_in(self.work), processes)
        except OSError as error:
            raise InputError(
                f"{self.folder}: the manifest cannot be written: {error.strerror}; was the folder removed meanwhile?"
            ) from error
        self._remove(self.work)
        return counts

    def _wait_for_threads(self) -> None:
        """Wait until this process writes no more files, which would be left in a folder that is being removed."""
        for thread in self.threads:
            thread.join()

    @contextlib.contextmanager
    def one_voice(self) -> Iterator[None]:
        """Let a single process report that a signal stopped the processes: the first one that it reaches.

        A process that is alone also adds what it has done to the manifest, if anything ends it before `finish`.
        """
        try:
            yield
        except BaseException as stop:
            if self.crew.size == 1:
                self.ended.set()
                self._wait_for_threads()
                with contextlib.suppress(InputError, OSError):  # such as a full disk; then the record is lost
                    self._close(self.work)
                self._remove(self.work)
            elif isinstance(stop, KeyboardInterrupt | Terminated) and not self._is_first_to_stop():
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

    def _create_work_folder(self) -> None:
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot write: {error.strerror}") from error

    def _give_signs_of_life(self) -> None:
        alive = self._file_of("alive", self.crew.rank)
        with contextlib.suppress(OSError):  # process 0 has removed the folder, or the disk is gone
            alive.touch()
            while not self.ended.wait(BEAT):
                os.utime(alive)

    def _answer(self) -> None:
        """Answer the other processes, which also may be restarted. Without an answer, they do not read the list."""
        begun = [self._file_of("ends", rank) for rank in range(1, self.crew.size)]
        with contextlib.suppress(OSError):
            while not self.finished.wait(BEAT if all(path.exists() for path in begun) else POLL):
                for asked in self.work.glob(f"asked-{self.crew.attempt}-*"):
                    self._file_of("answered", asked.name.rpartition("-")[2]).touch()

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

    def _close_dead_runs(self) -> None:
        """Close earlier runs that were killed."""
        now = self._file_of("ends", 0).stat().st_mtime  # by the clock of the disk
        for work in sorted(self.folder.glob(f"{WORK_FOLDER}*")):
            if work != self.work and _is_of_dead_run(work, now):
                self._close(work)

    def _close(self, work: Path) -> None:
        """Add the outcomes of a run that did not finish to the manifest, and remove its files."""
        if ended := list(_ended_in(work).values()):
            processes = len({path.name.rpartition("-")[2] for path in work.glob("ends-*")})
            entries = [{"image": end["image"], "outputs": end["outputs"]} for end in ended]
            last = max(path.stat().st_mtime_ns for path in work.glob("ends-*"))
            manifest = self.folder / MANIFEST
            is_older = manifest.exists() and manifest.stat().st_mtime_ns > last
            write_manifest(self.folder, entries, dict(enumerate(ended)), processes, False, is_older)
        self._remove(work)

    @staticmethod
    def _remove(work: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        mark_unfinished(work, unfinished=False)

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
            "torchrun on several machines: give --rdzv-id NAME, the same on each and of no other run now, so that "
            "the processes find each other in the folder of results"
        )
    return hashlib.sha256(
        f"{name} {environment.get('MASTER_ADDR')} {environment.get('MASTER_PORT')}".encode()
    ).hexdigest()[:16]


def _is_of_dead_run(work: Path, now: float) -> bool:
    """Return whether the launcher is gone, or for a run on several machines, whether all processes are silent."""
    host, _, process = work.name.removeprefix(WORK_FOLDER).rpartition("-")
    process = process.partition(".")[0]  # a run of one process has a token after its number
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


def _ended_in(work: Path) -> dict[int, dict[str, Any]]:
    """Files and last outcome of each job, by its index. An incomplete line of a killed process is ignored."""
    ended = {}
    for path in sorted(work.glob("ends-*"), key=_attempt_of):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError, LookupError):
                end = json.loads(line)
                if {"image", "outputs", "status", "remark"} <= end.keys():
                    ended[end["job"]] = end
    return ended
