"""Launch of a job by torch's elastic launcher or by torchrun: starting, joining and ending its processes.

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
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from engine.processes.rendezvous import (
    JOB,
    LOOPBACK,
    Address,
    choose_gloo_interface,
    connect,
    first_here,
    meet,
    open_store,
)
from engine.processes.watch import INTERVAL, LIMIT, Failure, Watch, lost_the_others, report_failure
from runtime.command_line import PAST_TENSE, explain, tell, unwinding
from runtime.errors import InputError
from runtime.text import one_line

TIMEOUT = timedelta(minutes=30)  # limit of a collective operation; a process may evaluate or save that long
JOIN_TIMEOUT = 600.0  # seconds
SAVING = 600  # seconds between SIGTERM or Ctrl-C and SIGKILL, in which processes can save
CAUSE = LIMIT + 15  # seconds in which the watch finds the machine that broke a connection
REPORTED = "reported"  # key in the job's store, set when process 0 has printed that a signal stopped the run
FAREWELL = 3 * INTERVAL  # seconds in which the other machines read the error of this one from the store


def launch(
    main: Callable[[], None],
    command: Sequence[str],
    *,
    device_type: Callable[[], str],
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
        device_type: function that returns "cuda", "mps" or "cpu". Its InputError is printed once, like that of `main`.
        num_processes: number of processes on this machine.
        num_machines: number of machines. The user starts each of them with its own `machine_rank`.
        machine_rank: number of this machine, from 0.
        dist_url: tcp://HOST:PORT of machine 0; "auto" for one machine.
        join_timeout: seconds to wait for all processes to join.

    Raises:
        InputError: more processes than GPUs, several machines without an address, or another invalid setting.
        SystemExit: a process failed and has printed the reason. The status is that of the failed process.
    """
    if not 0 < join_timeout <= 10**6:
        raise InputError(f"--join-timeout: expected seconds, above 0 and at most a million, got {join_timeout:g}")
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        if os.environ.get("TORCHELASTIC_RUN_ID") == JOB and num_machines > 1:
            _extend_job(num_machines, machine_rank, Address.parse(dist_url))
        _take_part(main, device_type, join_timeout)
    _check_counts(num_processes, num_machines, machine_rank, device_type())
    if num_processes * num_machines == 1:
        with unwinding():
            main()
        return
    if num_machines > 1 and dist_url == "auto":
        raise InputError("--num-machines > 1 needs --dist-url tcp://HOST:PORT of machine 0, the same on every machine")
    address = Address(LOOPBACK, 0) if dist_url == "auto" else Address.parse(dist_url)
    if num_machines == 1:
        address = Address(LOOPBACK, address.port)
    if machine_rank == 0:
        store = open_store(address)
    else:
        connect(address, join_timeout)
        store = open_store(Address(LOOPBACK, 0))  # for the agent, which knows this machine only
    failure = _run_agent(num_processes, machine_rank * num_processes, command, store)
    if failure is None:
        return
    if num_machines > 1:
        with contextlib.suppress(InputError, RuntimeError):  # the job's store is gone
            report_failure(dist.PrefixStore(JOB, connect(address, 0)), failure)
            time.sleep(FAREWELL * (machine_rank == 0))  # the store is in this process
    sys.exit(failure.status)


def _extend_job(num_machines: int, machine_rank: int, address: Address) -> None:
    """Set the environment variables for the processes of all machines; the agent has set them for this machine."""
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    os.environ |= {
        "RANK": str(machine_rank * local_size + local_rank),
        "WORLD_SIZE": str(num_machines * local_size),
        "MASTER_ADDR": address.host,
        "MASTER_PORT": str(address.port),
    }


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


def _run_agent(num_processes: int, first_rank: int, command: Sequence[str], store: dist.TCPStore) -> Failure | None:
    """Start this machine's processes and wait for them. Return the first that failed, or the signal that ended them."""
    logging.getLogger("torch.distributed.elastic").propagate = False  # each process reports its own failure
    logging.getLogger("torch.distributed.elastic").addHandler(logging.NullHandler())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=JOB,
        rdzv_backend="static",
        rdzv_endpoint=f"{LOOPBACK}:{store.port}",
        rdzv_configs={"rank": 0},
        max_restarts=0,
        monitor_interval=2 * INTERVAL,  # longer than the watch's, because the watch knows the cause of a failure
        logs_specs=DefaultLogsSpecs(os.devnull),
    )
    # Fields since torch 2.9 and 2.12. Older agents handle all signals, and send SIGKILL 30 seconds after SIGTERM.
    config.signals_to_handle = ",".join(n.name for n in PAST_TENSE if signal.getsignal(n) is not signal.SIG_IGN)
    config.shutdown_timeout = SAVING
    host = socket.gethostname()
    try:
        elastic_launch(config, sys.executable)("-u", *command)
    except SignalException as stop:
        if not store.check([REPORTED]):
            tell(PAST_TENSE[stop.sigval])
        return Failure(first_rank, host, 128 + stop.sigval, PAST_TENSE[stop.sigval])
    except ChildFailedError as error:
        local_rank, failure = next(iter(error.failures.items()))  # the first that ended, within one poll of the agent
        rank = first_rank + local_rank
        if failure.exitcode > 0:
            return Failure(rank, host, failure.exitcode, f"exit status {failure.exitcode}")
        message = f"killed by {failure.signal_name()}"
        tell(f"error: process {rank} on {host} ended: {message}")
        return Failure(rank, host, 128 - failure.exitcode, message)
    return None


def _take_part(main: Callable[[], None], device_type: Callable[[], str], join_timeout: float) -> NoReturn:
    """Join the job, run `main`, and end the process with status 0, or report the failure and end with its status.

    The process group is only destroyed after success, because the others must not wait for a failed process.
    """
    watch = None
    try:
        watch = _join(device_type(), join_timeout)
        status = _run(main)
        if status and os.environ["RANK"] == "0":
            connect(_place()[-1], FAREWELL).set(REPORTED, "")
        dist.barrier()  # no connection closes while a process still reads its last message
    except BaseException as error:
        if watch is not None and lost_the_others(error):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing can be saved any more
            time.sleep(CAUSE)  # the agent or the watch ends this process meanwhile
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
    """Report the failure of this process on stderr. Return its exit status, and one line for the other processes.

    Of the processes of a machine that fail for the same reason, the first prints it.
    """
    status, message, bug = 2, explain(error), False
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else 1
        message = one_line(error.__context__) if error.__context__ else f"exit status {status}"
    elif message is None:
        bug = not lost_the_others(error)
        reason = type(error).__name__ if bug else "the connection to the other processes broke"
        status, message = 1, f"{reason}: {one_line(error)[:200]}"
    if first_here(message) and not isinstance(error, SystemExit):  # which has reported its reason already
        traceback.print_exception(error) if bug else tell(f"error: {message}")
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
    """Meet the other processes, initialise the process group, and start the watch."""
    rank, world_size, local_rank, local_size, address = _place()
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))  # share the cores
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    store = open_store(address) if run is None and rank == 0 else connect(address, join_timeout)
    restarts = run not in (None, JOB)  # torchrun keeps its store for processes that it starts after a failure
    session, hosts = meet(store, rank, world_size, address, join_timeout, restarts)
    watch = Watch(dist.PrefixStore(session, connect(address, join_timeout)), rank, hosts, address)
    choose_gloo_interface(address if local_size < world_size else Address(LOOPBACK, 9))
    try:
        dist.init_process_group(
            "nccl" if device_type == "cuda" else "gloo",
            store=dist.PrefixStore(f"{session}/group", store),
            world_size=world_size,
            rank=rank,
            timeout=TIMEOUT,
        )
    except RuntimeError as error:
        interface = os.environ.get("GLOO_SOCKET_IFNAME", "gloo's choice")
        raise InputError(
            f"the processes met at {address} but could not connect with each other (over {interface}): "
            f"{one_line(error)[:200]}; do firewalls let them use every port between them, and is GLOO_SOCKET_IFNAME "
            "the interface to the others?"
        ) from error
    watch.start()
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
            f"too, and all except the address must be whole numbers ({one_line(error)}); start it with torchrun, or "
            "unset them"
        ) from error
    return rank, world_size, local_rank, local_size, address
