"""Which errors mean that another process is gone."""

import multiprocessing
import os
import socket
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from engine.processes.watch import lost_the_others

SOURCES = "/pytorch/third_party/gloo/gloo"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"[{SOURCES}/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:7358."),
        RuntimeError(f"[{SOURCES}/transport/tcp/unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation"),
        RuntimeError(f"[enforce fail at {SOURCES}/transport/tcp/pair.h:90] ready"),
        RuntimeError(f"Gloo connectFullMesh failed with [{SOURCES}/transport/tcp/pair.cc:152] no error"),
        RuntimeError("[Rank 1] NCCL communicator was aborted on rank 1."),
        RuntimeError("NCCL Error 6: remote process exited or there was a network error"),
        dist.DistNetworkError("The client socket has timed out"),
        raised(KeyError("batch"), RuntimeError(f"[{SOURCES}/transport/tcp/pair.cc:561] Connection closed by peer")),
    ],
)
def test_a_broken_connection_is_one(error):
    assert lost_the_others(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("/data/igloos/gloo/fg/17.png: not a readable image"),
        RuntimeError("Error(s) in loading state_dict for igloo: size mismatch for backbone.patch_embed.proj.weight"),
        RuntimeError("train.output_dir=runs/NCCL test: shape '[4, 3]' is invalid for input of size 11"),
        RuntimeError("[runs/gloo/a.pth] expected scalar type Half but found Float"),
        ValueError(f"[{SOURCES}/transport/tcp/pair.cc:561] Connection closed by peer"),
        None,
    ],
)
def test_an_error_that_only_names_the_library_is_none(error):
    assert not lost_the_others(error)


def lose_the_other(rank: int, port: int, silent: bool, errors: multiprocessing.Queue) -> None:
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", world_size=2, rank=rank, timeout=timedelta(seconds=2)
    )
    numbers = torch.ones(100)
    dist.all_reduce(numbers)
    if rank == 1:
        time.sleep(6 if silent else 0)
        os._exit(0)
    try:
        while True:
            dist.all_reduce(numbers)
    except RuntimeError as error:
        errors.put((type(error), str(error)))
        errors.close()
        errors.join_thread()
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("silent", [False, True], ids=["dead", "silent"])
def test_what_gloo_raises_here_is_recognised(silent):
    """Its words are those of the version installed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    processes = [context.Process(target=lose_the_other, args=(rank, port, silent, errors)) for rank in range(2)]
    for process in processes:
        process.start()
    kind, message = errors.get(timeout=60)
    for process in processes:
        process.join(20)
    assert lost_the_others(kind(message)), message
