"""Starting one or several training processes, on GPUs (nccl) or CPUs (gloo), by ourselves or under torchrun."""

import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from data.errors import InputError
from engine.cli import one_line

TIMEOUT = timedelta(minutes=30)


def launch(
    main: Callable[..., None],
    *,
    device_type: str,
    num_processes: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[Any, ...] = (),
) -> None:
    """Call `main(*args)` in every process of the job, with the process group set up.

    Under torchrun (its environment variables are set) this process is one of the job already, the counts are
    torchrun's, and the process ends here. Otherwise `num_processes` are started on this machine, one of `num_machines`.

    Raises:
        InputError: more processes than GPUs, or several machines without an address to meet at.
        SystemExit: a process failed; it has printed why.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        _join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), local_rank, local_size, "env://", device_type)
        _run_and_leave(main, args)
    if num_processes < 1 or num_machines < 1:
        raise InputError(f"--num-gpus and --num-machines: expected 1 or more, got {num_processes} and {num_machines}")
    if device_type == "cuda" and num_processes > torch.cuda.device_count():
        raise InputError(f"--num-gpus {num_processes}, but this machine has {torch.cuda.device_count()}")
    if device_type == "mps" and num_processes * num_machines > 1:
        raise InputError("--num-gpus: one process only on mps")
    world_size = num_processes * num_machines
    if world_size <= 1:
        main(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise InputError(
                "--num-machines > 1 needs --dist-url tcp://HOST:PORT of machine 0, the same on every machine"
            )
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    try:
        mp.start_processes(
            _worker,
            args=(main, num_processes, world_size, machine_rank, dist_url, device_type, args),
            nprocs=num_processes,
            start_method="spawn",
        )
    except mp.ProcessExitedException as error:  # it has printed its own one-line message
        sys.exit(error.exit_code)


def _worker(
    local_rank: int,
    main: Callable[..., None],
    local_size: int,
    world_size: int,
    machine_rank: int,
    dist_url: str,
    device_type: str,
    args: tuple[Any, ...],
) -> None:
    try:
        _join(machine_rank * local_size + local_rank, world_size, local_rank, local_size, dist_url, device_type)
    except InputError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    _run_and_leave(main, args)


def _run_and_leave(main: Callable[..., None], args: tuple[Any, ...]) -> NoReturn:
    """Run `main` and end the process: with status 0, or 2 after a user's mistake.

    The group is left only after success: after a failure the others must not wait for a goodbye.
    """
    try:
        main(*args)
    except InputError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        _end_process(2)
    dist.barrier()  # nobody hangs up on a process that still reads its last message
    dist.destroy_process_group()
    _end_process(0)


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


def _join(rank: int, world_size: int, local_rank: int, local_size: int, dist_url: str, device_type: str) -> None:
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))  # share the cores
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=dist_url, world_size=world_size, rank=rank, timeout=TIMEOUT)
    _register_local_group(rank, world_size, local_size)


def _register_local_group(rank: int, world_size: int, local_size: int) -> None:
    """Tell detectron2 which processes share this machine; v0.6 has no function for it."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for machine in range(world_size // local_size):
        group = dist.new_group(list(range(machine * local_size, (machine + 1) * local_size)))
        if machine == rank // local_size:
            comm._LOCAL_PROCESS_GROUP = group


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
