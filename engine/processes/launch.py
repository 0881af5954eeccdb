"""The processes of a job: started by torch's elastic launcher, or by torchrun, and what each of them does.

`python main.py --num-gpus N` runs torch's agent in this process, which starts the same script N times; torchrun does
the same from outside. What torch leaves out is here: one line for a mistake, its exit status, and `watch.py`.
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

TIMEOUT = timedelta(minutes=30)  # of one collective operation: a process may evaluate or save that long
JOIN_TIMEOUT = 600.0  # seconds
SAVING = 600  # seconds that processes get to save after SIGTERM or Ctrl-C, until SIGKILL
CAUSE = LIMIT + 5  # seconds in which the watch learns which machine broke a connection
FAREWELL = 3 * INTERVAL  # seconds in which the other machines read from the store why this one fails
READY = "ready"  # in the job's store once the first process has joined


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
    """Call `main` in every process of the job, with the process group set up.

    Where there is one process, it is this one. Where there are several, they run `command`, which calls this function
    again; as torchrun does, torch's agent has set RANK, WORLD_SIZE and the like for them. A process that finds these
    set takes part in the job and ends here.

    Args:
        command: a Python script and its arguments.
        device_type: cuda, mps or cpu.
        num_processes: on this machine.
        num_machines: that take part, each started by hand with a `machine_rank` of its own.
        machine_rank: of this machine, from 0.
        dist_url: tcp://HOST:PORT of machine 0; "auto" where there is one machine.
        join_timeout: seconds until processes that have not all met give up.

    Raises:
        InputError: more processes than GPUs, several machines without an address to meet at, and the like.
        SystemExit: a process failed, and a line says why; the status is its own.
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
        monitor_interval=2 * INTERVAL,  # the watch comes first: it knows the cause
        logs_specs=DefaultLogsSpecs(os.devnull),
    )
    # attributes since torch 2.9 and 2.12: earlier ones handle all signals, and SIGKILL comes 30 seconds after SIGTERM
    config.signals_to_handle = "" if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else "SIGTERM"
    config.shutdown_timeout = SAVING
    sys.exit(_run_agent(config, command, store))


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
    """Start this machine's processes and wait for them; the exit status of the first that failed, else 0."""
    logging.getLogger("torch.distributed.elastic").propagate = False  # a process says itself why it fails
    logging.getLogger("torch.distributed.elastic").addHandler(logging.NullHandler())
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        # SIGINT would end a process that still imports with a traceback
        early = _ask(lambda: store.check([READY])) is False
        raise SignalException("Ctrl-C", signal.SIGTERM if early else signal.SIGINT)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        elastic_launch(config, sys.executable)("-u", *command)
    except SignalException as stop:
        number = signal.SIGINT if interrupted else stop.sigval
        if _ask(lambda: store.check([READY])) is False:  # else the processes say so
            tell(PAST_TENSE[number])
        return 128 + number
    except ChildFailedError as error:
        rank, failure = next(iter(error.failures.items()))  # the first that ended, to the poll of the agent
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
    """The result of an operation on the store; None where it has none in time, as over a cut wire, or is gone."""
    results = []

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            results.append(operation())

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(FAREWELL)
    return results[0] if results else None


def _take_part(main: Callable[[], None], device_type: str, join_timeout: float) -> NoReturn:
    """Join the job, run `main`, and end the process: with status 0, or its failure's after it told the others.

    The group is left only after success: after a failure the others must not wait for a goodbye.
    """
    watch = None
    try:
        watch = _join(device_type, join_timeout)
        status = _run(main)
        dist.barrier()  # nobody hangs up on a process that still reads its last message
    except BaseException as error:
        if watch is not None and lost_the_others(error):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing can be saved any more
            time.sleep(CAUSE if watch.spans_machines else FAREWELL + 2 * INTERVAL)  # the watch, or the agent, knows
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
    """The exit status all processes agree on: 0, or that of a run which a signal has stopped."""
    try:
        main()
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
    """End the process without tearing the interpreter down.

    Gloo's threads live as long as anything holds their group, and DDP's C++ side does so to the end. One that then
    frees a tensor needs an interpreter that is no longer there, which now and then aborts a run that has succeeded
    (the cause is described in pytorch/pytorch pull request 179291).
    """
    gc.collect()  # ends the loaders' processes
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _join(device_type: str, join_timeout: float) -> Watch:
    """Meet the other processes, watch them, and set the process group up."""
    rank, world_size, local_rank, local_size, address = _place()
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))  # share the cores
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    store = open_store(address) if run is None and rank == 0 else connect(address, join_timeout)
    restarts = run not in (None, JOB)  # torchrun keeps the store for the processes it starts after a failure
    shape = f"{world_size} processes"
    session, hosts = meet(store, rank, world_size, "process", shape, address, join_timeout, restarts)
    own_connection = connect(address, join_timeout)  # an operation on it may hang with the network
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
    """Rank, world size, both on this machine, and the store's address: as the agent, or a user, has set them."""
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
    """Let detectron2 know which processes share this machine; v0.6 has no function for it."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for machine in range(world_size // local_size):
        group = dist.new_group(list(range(machine * local_size, (machine + 1) * local_size)))
        if machine == rank // local_size:
            comm._LOCAL_PROCESS_GROUP = group
