"""Launch of a job by torch's elastic launcher or by torchrun, and the course of each of its processes.

`python main.py --num-gpus N` runs torch's agent in this process, which starts the same script N times. torchrun runs
the agent in its own process. This module adds what torch lacks: a one-line message for an error, the exit status of the
failed process, and the watch of `watch.py`.
"""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from engine.processes.rendezvous import JOB, LOOPBACK, Address, choose_gloo_interface, connect, meet, open_store
from engine.processes.watch import INTERVAL, LIMIT, Failure, Watch, lost_the_others, report_failure
from runtime.command_line import PAST_TENSE, explain, tell
from runtime.errors import InputError
from runtime.text import one_line

TIMEOUT = timedelta(minutes=30)  # limit of a collective operation; a process may evaluate or save that long
JOIN_TIMEOUT = 600.0  # seconds
SAVING = 600  # seconds between SIGTERM or Ctrl-C and SIGKILL, in which processes can save
CAUSE = LIMIT + 5  # seconds in which the watch finds the machine that broke a connection
FAREWELL = 3 * INTERVAL  # seconds in which the other machines read the error of this one from the store
READY = "ready"  # key in the job's store, set when the first process has joined


def launch(
    main: Callable[[], None],
    command: Sequence[str],
    *,
    device_type: str,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    join_timeout: float = JOIN_TIMEOUT,
) -> None:
    """Call `main` in every process of the job, with an initialised process group.

    A job of one process runs in this process. The processes of a larger job run `command`, which calls this function
    again. torch's agent has then set RANK, WORLD_SIZE and related variables, as torchrun does. If they are set, this
    process joins the job, runs `main` and ends here.

    Args:
        command: Python script and its arguments.
        device_type: "cuda", "mps" or "cpu".
        num_processes: number of processes on this machine.
        num_machines: number of machines. The user starts each of them with its own `machine_rank`.
        machine_rank: number of this machine, from 0.
        dist_url: tcp://HOST:PORT of machine 0; "auto" for one machine.
        join_timeout: seconds to wait for all processes to join.

    Raises:
        InputError: more processes than GPUs, several machines without an address, or another invalid setting.
        SystemExit: a process failed. It has printed the reason, and the status is its status.
    """
    if not 0 < join_timeout <= 10**6:
        raise InputError(f"--join-timeout: expected seconds, above 0 and at most a million, got {join_timeout:g}")
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _take_part(main, device_type, join_timeout)
    _check_counts(num_processes, num_machines, machine_rank, device_type)
    if num_processes * num_machines == 1:
        main()
        return
    if num_machines > 1 and dist_url == "auto":
        raise InputError("--num-machines > 1 needs --dist-url tcp://HOST:PORT of machine 0, the same on every machine")
    address = Address("", 0) if dist_url == "auto" else Address.parse(dist_url)
    if num_machines == 1:
        address = Address(LOOPBACK, address.port)
    store = open_store(address) if machine_rank == 0 else connect(address, join_timeout)
    address = Address(address.host, store.port)
    shape = f"{num_machines} machines with {num_processes} processes each"
    machines = dist.PrefixStore("machines", store)
    meet(machines, machine_rank, num_machines, "machine", shape, address, join_timeout)
    config = LaunchConfig(
        min_nodes=num_machines,
        max_nodes=num_machines,
        nproc_per_node=num_processes,
        run_id=JOB,
        rdzv_backend="static",
        rdzv_endpoint=str(address),
        rdzv_configs={"rank": machine_rank, "timeout": int(join_timeout) + 1},
        max_restarts=0,
        monitor_interval=2 * INTERVAL,  # longer than the watch's, because the watch knows the cause of a failure
        logs_specs=DefaultLogsSpecs(os.devnull),
    )
    # Fields since torch 2.9 and 2.12. Older agents handle all signals, and send SIGKILL 30 seconds after SIGTERM.
    config.signals_to_handle = "" if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else "SIGTERM"
    config.shutdown_timeout = SAVING
    status = _run_agent(config, command, store)
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


def _run_agent(config: LaunchConfig, command: Sequence[str], store: dist.Store) -> int:
    """Start this machine's processes and wait for them. Return the exit status of the first that failed, else 0."""
    logging.getLogger("torch.distributed.elastic").propagate = False  # each process reports its own failure
    logging.getLogger("torch.distributed.elastic").addHandler(logging.NullHandler())
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        # During imports, SIGINT would end a process with a traceback.
        early = _ask(lambda: store.check([READY])) is False
        raise SignalException("Ctrl-C", signal.SIGTERM if early else signal.SIGINT)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        elastic_launch(config, sys.executable)("-u", *command)
    except SignalException as stop:
        number = signal.SIGINT if interrupted else stop.sigval
        if _ask(lambda: store.check([READY])) is False:  # otherwise the processes report it
            tell(PAST_TENSE[number])
        return 128 + number
    except ChildFailedError as error:
        rank, failure = next(iter(error.failures.items()))  # the first that ended, within one poll of the agent
        status = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        message = f"exit status {status}" if failure.exitcode > 0 else f"killed by {failure.signal_name()}"
        if failure.exitcode < 0:
            tell(f"error: process {rank} on {socket.gethostname()} ended: {message}")
        if config.max_nodes > 1:
            told = Failure(rank, socket.gethostname(), status, message)
            _ask(lambda: report_failure(dist.PrefixStore(JOB, store), told))
            time.sleep(FAREWELL)
        return status
    return 0


def _ask(operation: Callable[[], Any]) -> Any:
    """Result of an operation on the store; None if the store is gone or does not answer in time."""
    results = []

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            results.append(operation())

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(FAREWELL)
    return results[0] if results else None


def _take_part(main: Callable[[], None], device_type: str, join_timeout: float) -> NoReturn:
    """Join the job, run `main`, and end the process with status 0, or report the failure and end with its status.

    The process group is only destroyed after success, because the others must not wait for a failed process.
    """
    watch = None
    try:
        watch = _join(device_type, join_timeout)
        status = _run(main)
        dist.barrier()  # no connection closes while a process still reads its last message
    except BaseException as error:
        if watch is not None and lost_the_others(error):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing can be saved any more
            has_agent = "TORCHELASTIC_RUN_ID" in os.environ  # the agent or the watch ends this process meanwhile
            time.sleep(FAREWELL + 2 * INTERVAL if has_agent and not watch.spans_machines else CAUSE)
        if isinstance(error, Exception):
            get_error_handler().record_exception(error)  # for torchrun's report
        status, message = _tell(error)
        if watch is not None:
            watch.report(status, message)
            if os.environ["RANK"] == "0" and "TORCHELASTIC_RUN_ID" not in os.environ:
                time.sleep(FAREWELL)  # the store is in this process
        _end_process(status)
    watch.leave()
    dist.destroy_process_group()
    _end_process(status)


def _run(main: Callable[[], None]) -> int:
    """Exit status common to all processes: 0, or that of a run that a signal stopped."""
    try:
        main()
    except SystemExit as error:
        if error.code in (None, 0, 128 + signal.SIGINT, 128 + signal.SIGTERM):
            return error.code or 0
        raise
    return 0


def _tell(error: BaseException) -> tuple[int, str]:
    """Report the failure of this process on stderr. Return its exit status, and one line for the other processes."""
    if isinstance(error, SystemExit):  # already reported
        status = error.code if isinstance(error.code, int) else 1
        return status, one_line(error.__context__) if error.__context__ else f"exit status {status}"
    if isinstance(error, KeyboardInterrupt):
        if os.environ.get("RANK") == "0":
            tell(PAST_TENSE[signal.SIGINT])
        return 128 + signal.SIGINT, PAST_TENSE[signal.SIGINT]
    status, message = 2, explain(error)
    if message is None and lost_the_others(error):
        status, message = 1, f"the connection to the other processes broke: {str(error).splitlines()[0][:200]}"
    if message is None:
        traceback.print_exception(error)
        return 1, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    tell(f"error: {message}")
    return status, message


def _end_process(status: int) -> NoReturn:
    """End the process without finalising the interpreter.

    Gloo's threads live as long as their group is referenced, and DDP's C++ objects reference it to the end. A thread
    that then frees a tensor needs the interpreter, which no longer exists. This occasionally aborts a successful run
    (pytorch/pytorch pull request 179291 describes the cause).
    """
    gc.collect()  # ends the loaders' processes
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _join(device_type: str, join_timeout: float) -> Watch:
    """Meet the other processes, start the watch, and initialise the process group."""
    rank, world_size, local_rank, local_size, address = _place()
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))  # share the cores
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    store = open_store(address) if run is None and rank == 0 else connect(address, join_timeout)
    restarts = run not in (None, JOB)  # torchrun keeps its store for processes that it starts after a failure
    shape = f"{world_size} processes"
    session, hosts = meet(store, rank, world_size, "process", shape, address, join_timeout, restarts)
    own_connection = connect(address, join_timeout)  # an operation may block when the network fails
    watch = Watch(dist.PrefixStore(session, own_connection), rank, hosts, address, local_size < world_size)
    choose_gloo_interface(address if watch.spans_machines else Address(LOOPBACK, 9))
    interface = os.environ.get("GLOO_SOCKET_IFNAME", "gloo's choice")
    failing = (
        f"the processes met at {address} but could not connect with each other (over {interface}): do "
        "firewalls let them use every port between them, and is GLOO_SOCKET_IFNAME the interface to the others?"
    )
    with watch.joining(join_timeout, failing):
        dist.init_process_group(
            "nccl" if device_type == "cuda" else "gloo",
            store=dist.PrefixStore(f"{session}/group", store),
            world_size=world_size,
            rank=rank,
            timeout=TIMEOUT,
        )
        _register_local_group(rank, world_size, local_size)
    store.set(READY, "")
    return watch


def _place() -> tuple[int, int, int, int, Address]:
    """Rank and world size, local rank and size, and the store's address, from the environment variables."""
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        address = Address(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    except (KeyError, ValueError) as error:
        raise InputError(
            "RANK and WORLD_SIZE are set, so this is one process of a job: MASTER_ADDR and MASTER_PORT must be set "
            f"too, and all but the address be whole numbers ({one_line(error)}); start it with torchrun, or unset them"
        ) from error
    return rank, world_size, local_rank, local_size, address


def _register_local_group(rank: int, world_size: int, local_size: int) -> None:
    """Register the processes of this machine in detectron2, of which v0.6 has no function for this."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for machine in range(world_size // local_size):
        group = dist.new_group(list(range(machine * local_size, (machine + 1) * local_size)))
        if machine == rank // local_size:
            comm._LOCAL_PROCESS_GROUP = group
