"""Starting one or several training processes, on GPUs (nccl) or CPUs (gloo), by ourselves or under torchrun.

The process that a user starts is no part of the job: on machine 0 it opens the job's store (rendezvous.py); it starts
this machine's processes, passes signals on to them, and leaves with their status.
"""

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from data.training.decoded_cache import close_caches
from engine.processes.rendezvous import JOB, Address, choose_gloo_interface, connect, meet, parse_address, serve
from engine.processes.watch import LIMIT, Failure, Watch, lost_the_others, mark_done, report_failure, wait_until_done
from runtime.command_line import MACHINE_ERRORS, one_line, tell
from runtime.errors import InputError

TIMEOUT = timedelta(minutes=30)  # of one collective operation: a process may evaluate or save that long
JOIN_TIMEOUT = 600.0  # seconds
CAUSE = LIMIT + 5  # seconds in which the watch learns who broke a connection
GRACE = 15.0  # seconds the processes of a machine get to end by themselves after one has failed
FAREWELL = 10.0  # seconds the store is kept for those still reading it
LOADERS_END = 5.0  # seconds that data-loading processes get to end when told to


@dataclass(frozen=True)
class _Place:
    """Where in the job a process is, and how it meets the others."""

    rank: int
    world_size: int
    local_rank: int
    local_size: int
    address: Address
    join_timeout: float
    serves: bool = False  # this process holds the job's store
    restarts: bool = False  # the store may hold what earlier processes left


def launch(
    main: Callable[..., None],
    *,
    device_type: str,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    join_timeout: float = JOIN_TIMEOUT,
    args: tuple[Any, ...] = (),
) -> None:
    """Call `main(*args)` in every process of the job, with the process group set up.

    Under torchrun (its environment variables are set) this process is one of the job already, the counts are
    torchrun's, and the process ends here. Otherwise `num_processes` are started on this machine, one of `num_machines`.
    SIGTERM and Ctrl-C are passed on to them.

    Args:
        main: importable; it runs in processes of its own where there are several.
        device_type: cuda, mps or cpu.
        num_processes: on this machine.
        num_machines: that take part, each started by hand with a `machine_rank` of its own.
        machine_rank: of this machine, from 0.
        dist_url: tcp://HOST:PORT of machine 0; "auto" where there is one machine.
        join_timeout: seconds until processes that have not all met give up.
        args: for `main`.

    Raises:
        InputError: more processes than GPUs, several machines without an address to meet at, and the like.
        SystemExit: a process failed, and a line has told why; the status is its own.
    """
    if not 0 < join_timeout <= 10**6:
        raise InputError(f"--join-timeout: expected seconds, above 0 and at most a million, got {join_timeout:g}")
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _run_and_leave(main, args, _place_in_environment(join_timeout), device_type)
    _check_counts(num_processes, num_machines, machine_rank, device_type)
    world_size = num_processes * num_machines
    if world_size == 1:
        main(*args)
        return
    address = Address("127.0.0.1", 0)
    if dist_url != "auto":
        address = parse_address(dist_url)
    elif num_machines > 1:
        raise InputError("--num-machines > 1 needs --dist-url tcp://HOST:PORT of machine 0, the same on every machine")
    if num_machines == 1:
        address = Address("127.0.0.1", address.port)
    store = None
    if machine_rank == 0:
        store = serve(address)
        address = Address(address.host, store.port)
    first = machine_rank * num_processes
    places = [
        _Place(first + local_rank, world_size, local_rank, num_processes, address, join_timeout)
        for local_rank in range(num_processes)
    ]
    status = _Launcher(places, store).run(main, args, device_type)
    if status:
        sys.exit(status)


def _check_counts(num_processes: int, num_machines: int, machine_rank: int, device_type: str) -> None:
    if num_processes < 1 or num_machines < 1:
        raise InputError(f"--num-gpus and --num-machines: expected 1 or more, got {num_processes} and {num_machines}")
    if not 0 <= machine_rank < num_machines:
        raise InputError(
            f"--machine-rank: expected 0 to {num_machines - 1} with --num-machines {num_machines}, got {machine_rank}"
        )
    if device_type == "cuda" and num_processes > torch.cuda.device_count():
        raise InputError(f"--num-gpus {num_processes}, but this machine has {torch.cuda.device_count()}")
    if device_type == "mps" and num_processes * num_machines > 1:
        raise InputError("--num-gpus: one process only on mps")


def _place_in_environment(join_timeout: float) -> _Place:
    """The place torchrun, or whoever set the same variables, has given this process."""
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        address = Address(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    except (KeyError, ValueError) as error:
        raise InputError(
            "RANK and WORLD_SIZE are set, so this is one process of a job: MASTER_ADDR and MASTER_PORT must be set "
            f"too, and all but the address be whole numbers ({one_line(error)}); start it with torchrun, or unset them"
        ) from error
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return _Place(
        rank,
        world_size,
        local_rank,
        local_size,
        address,
        join_timeout,
        serves=rank == 0 and not by_agent,
        restarts=by_agent,
    )


class _Launcher:
    """Starts the processes of this machine and waits for them.

    Args:
        places: of this machine's processes.
        store: of the job where this is machine 0, else None.
    """

    def __init__(self, places: list[_Place], store: dist.TCPStore | None) -> None:
        self.places, self.store = places, store
        self.workers: list[tuple[SpawnProcess, Event]] = []
        self.signal = 0

    def run(self, main: Callable[..., None], args: tuple[Any, ...], device_type: str) -> int:
        """Start the processes and wait; the exit status of the first that failed, else 0."""
        with self._passing_signals_on():
            self._start(main, args, device_type)
            status = self._wait()
            if self.store is not None:
                job = dist.PrefixStore(JOB, self.store)
                mark_done(job, [place.rank for place in self.places])
                wait_until_done(job, self.places[0].world_size, FAREWELL)
        return status

    def _start(self, main: Callable[..., None], args: tuple[Any, ...], device_type: str) -> None:
        context = mp.get_context("spawn")
        ignores_interrupt = self._usual_interrupt is signal.SIG_IGN
        # the new processes inherit it, so that Ctrl-C while they import is for this process alone
        handler = self._set_handler(signal.SIGINT, signal.SIG_IGN)
        for place in self.places:
            ready = context.Event()
            worker = context.Process(
                target=_worker, args=(ready, ignores_interrupt, os.getpid(), main, args, place, device_type)
            )
            worker.start()
            self.workers.append((worker, ready))
        self._set_handler(signal.SIGINT, handler)

    def _wait(self) -> int:
        status, deadline = 0, float("inf")
        running = {worker.sentinel: i for i, (worker, _) in enumerate(self.workers)}
        while running:
            if time.monotonic() > deadline:
                self._end_the_rest()
            for sentinel in connection.wait(list(running), timeout=0.5):
                index = running.pop(sentinel)
                worker = self.workers[index][0]
                worker.join()
                if worker.exitcode and not status:
                    status, deadline = self._failed(index, worker.exitcode), time.monotonic() + GRACE
        return status

    def _failed(self, index: int, exit_code: int) -> int:
        """Tell the job of the first process of this machine that failed; the job's status."""
        if self.signal and exit_code in (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT):
            if exit_code < 0:  # it had not come so far that it tells by itself
                tell("interrupted" if self.signal == signal.SIGINT else "terminated")
            message, status = "the run was interrupted", 128 + self.signal
        elif exit_code < 0:
            name = signal.Signals(-exit_code).name
            message, status = f"killed by {name}", 128 - exit_code
            tell(f"error: process {self.places[index].rank} on {socket.gethostname()} ended: {message}")
        else:
            message, status = f"exit status {exit_code}", exit_code
        with contextlib.suppress(InputError, RuntimeError):
            store = self.store or connect(self.places[index].address, seconds=5)
            failure = Failure(self.places[index].rank, socket.gethostname(), status, message)
            report_failure(dist.PrefixStore(JOB, store), failure)
        return status

    def _end_the_rest(self) -> None:
        for worker, _ in self.workers:
            worker.kill()

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        """Within, SIGTERM and SIGINT go on to the processes; a signal that was ignored, as under nohup, stays so."""
        self._usual_interrupt = signal.getsignal(signal.SIGINT)
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        previous = {number: self._set_handler(number, self._pass_on) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                self._set_handler(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        for worker, ready in self.workers:
            if worker.exitcode is None:
                # one that still imports ignores SIGINT, and has nothing to save
                os.kill(worker.pid, number if ready.is_set() else signal.SIGTERM)

    @staticmethod
    def _set_handler(number: int, handler: Any) -> Any:
        """Install a signal handler where that is possible: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return signal.getsignal(number)
        return signal.signal(number, handler)


def _worker(
    ready: Event,
    ignores_interrupt: bool,
    launcher: int,
    main: Callable[..., None],
    args: tuple[Any, ...],
    place: _Place,
    device_type: str,
) -> NoReturn:
    """A process of the job, started by `_Launcher`."""
    os.setpgid(0, 0)  # Ctrl-C reaches the launcher alone, which passes it on once
    _end_with_parent(launcher)
    if not ignores_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ready.set()
    _run_and_leave(main, args, place, device_type)


def _end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone: a run that goes on unseen would meet its successor."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1  # from linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run_and_leave(main: Callable[..., None], args: tuple[Any, ...], place: _Place, device_type: str) -> NoReturn:
    """Join the job, run `main`, and end the process: with status 0, or its failure's after telling the others.

    The group is left only after success: after a failure the others must not wait for a goodbye.
    """
    watch, store = None, None
    try:
        watch, store = _join(place, device_type)
        status = _run(main, args)
        dist.barrier()  # nobody hangs up on a process that still reads its last message
    except BaseException as error:
        if watch is not None and lost_the_others(error):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing can be saved any more
            watch.wait_for_cause(5 if place.restarts else CAUSE)
        status, message = _tell(error)
        if watch is not None:
            watch.report(status, message)
        _linger(place, store)
        _end_process(status)
    watch.leave()
    _linger(place, store)
    dist.destroy_process_group()
    _end_process(status)


def _run(main: Callable[..., None], args: tuple[Any, ...]) -> int:
    """The exit status all processes agree on: 0, or that of a run which a signal has stopped."""
    try:
        main(*args)
    except SystemExit as error:
        if error.code in (None, 0, 128 + signal.SIGINT, 128 + signal.SIGTERM):
            return error.code or 0
        raise
    return 0


def _tell(error: BaseException) -> tuple[int, str]:
    """Say on stderr why this process fails; its exit status, and the same in one line for the others."""
    if isinstance(error, SystemExit):  # it has been said
        status = error.code if isinstance(error.code, int) else 1
        return status, one_line(error.__context__) if error.__context__ else f"exit status {status}"
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT, "interrupted"
    if isinstance(error, InputError):
        tell(f"error: {one_line(error)}")
        return 2, one_line(error)
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        message = f"{error.filename or 'output'}: {error.strerror}"
        tell(f"error: {message}")
        return 2, message
    if lost_the_others(error):
        message = f"the connection to the other processes broke: {str(error).splitlines()[0][:200]}"
        tell(f"error: {message}")
        return 1, message
    traceback.print_exception(error)
    return 1, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _linger(place: _Place, store: dist.Store | None) -> None:
    if place.serves and store is not None:
        wait_until_done(store, place.world_size, FAREWELL)


def _end_process(status: int) -> NoReturn:
    """End the process without tearing the interpreter down.

    Gloo's threads live as long as anything holds their group, and DDP's C++ side does so to the end. One that then
    frees a tensor needs an interpreter that is no longer there, which now and then aborts a run that has succeeded
    (the cause is described in pytorch/pytorch pull request 179291).
    """
    gc.collect()  # ends the loaders' processes
    _end_loaders()
    close_caches()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_loaders() -> None:
    """End the data-loading processes that a failure's traceback still holds: they use the cache of decoded pictures."""
    deadline = time.monotonic() + LOADERS_END
    with contextlib.suppress(RuntimeError):  # torch's, when one ends by the signal: it had only just started
        loaders = multiprocessing.active_children()
        for loader in loaders:
            loader.terminate()
        for loader in loaders:
            loader.join(max(0.0, deadline - time.monotonic()))


def _join(place: _Place, device_type: str) -> tuple[Watch, dist.Store]:
    """Meet the other processes, watch them, and set the process group up; the watch and the job's part of the store."""
    if device_type == "cuda":
        torch.cuda.set_device(place.local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.local_size))  # share the cores
    store = serve(place.address) if place.serves else connect(place.address, place.join_timeout)
    session, hosts = _meet(store, place)
    own_connection = connect(place.address, place.join_timeout)
    watch = Watch(dist.PrefixStore(session, own_connection), place.rank, hosts, str(place.address))
    choose_gloo_interface(place.address if place.local_size < place.world_size else Address("127.0.0.1", 9))
    interface = os.environ.get("GLOO_SOCKET_IFNAME", "gloo's choice")
    failing = (
        f"the processes met at {place.address} but could not connect with each other (over {interface}): do "
        "firewalls let them use every port between them, and is GLOO_SOCKET_IFNAME the interface to the others?"
    )
    with watch.joining(place.join_timeout, failing):
        watch.start()
        dist.init_process_group(
            "nccl" if device_type == "cuda" else "gloo",
            store=dist.PrefixStore(f"{session}/group", store),
            world_size=place.world_size,
            rank=place.rank,
            timeout=TIMEOUT,
        )
        _register_local_group(place.rank, place.world_size, place.local_size)
    return watch, dist.PrefixStore(session, store)


def _meet(store: dist.Store, place: _Place) -> tuple[str, list[str]]:
    try:
        return meet(
            store,
            place.rank,
            place.world_size,
            address=place.address,
            seconds=place.join_timeout,
            restarts=place.restarts,
        )
    except InputError as error:
        if not place.restarts:
            failure = Failure(place.rank, socket.gethostname(), 2, one_line(error))
            report_failure(dist.PrefixStore(JOB, store), failure)
        raise
    except dist.DistError as error:
        raise InputError(
            f"machine 0 ended while the processes were meeting at {place.address}; it has told why"
        ) from error


def _register_local_group(rank: int, world_size: int, local_size: int) -> None:
    """Tell detectron2 which processes share this machine; v0.6 has no function for it."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for machine in range(world_size // local_size):
        group = dist.new_group(list(range(machine * local_size, (machine + 1) * local_size)))
        if machine == rank // local_size:
            comm._LOCAL_PROCESS_GROUP = group
