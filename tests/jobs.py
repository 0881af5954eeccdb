"""Small jobs of several processes that end in many ways, for test_distributed.py.

python tests/jobs.py fork      every case of `CASES`, each process forked from one that has imported all
python tests/jobs.py launch NAME PROCESSES [FOLDER] [--machine RANK PORT]
      one of them with processes of its own, as main.py starts them, on one machine or as one of two
"""

import json
import os
import signal
import socket
import sys
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"  # torch's store looks names up, and the name server may be away
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as main.py does

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime.command_line import run

if "RANK" in os.environ:  # as main.py does
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import torch
import torch.distributed as dist

import engine.processes.agreement
import engine.processes.launch
import engine.processes.watch
from engine.processes.agreement import from_main_process
from engine.processes.launch import launch
from runtime.errors import InputError

SHORT = 2.0  # seconds of one collective operation where a case waits longer than that
LIMIT = 3.0  # seconds without a sign of life, in place of the real 30


def ends_well(folder: str = "") -> None:
    meet_often(20)
    time.sleep(1.5 * LIMIT * (dist.get_rank() == 0))  # a long save: the others wait at the end


def makes_a_mistake() -> None:
    meet_often(3)
    if dist.get_rank() == 1:
        raise InputError("train.colour: expected blue")
    meet_often(1000)


def all_make_a_mistake() -> None:
    read_colour()


def crashes() -> None:
    meet_often(3)
    if dist.get_rank() == 1:
        raise ZeroDivisionError("a bug")
    meet_often(1000)


def has_told_why() -> None:
    meet_often(3)
    if dist.get_rank() == 1:
        try:
            raise ArithmeticError("loss is not finite at iteration 3")
        except ArithmeticError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
    meet_often(1000)


def is_killed() -> None:
    die_in_process(1, signal.SIGKILL)


def host_of_the_store_is_killed() -> None:
    die_in_process(0, signal.SIGKILL)


def stands_still() -> None:
    die_in_process(1, signal.SIGSTOP)


def is_interrupted() -> None:
    """All processes stop at the same iteration, as the training loop does; the first still saves."""
    meet_often(3)
    time.sleep(2.0 * (dist.get_rank() == 0))
    print(f"saved by {dist.get_rank()}", file=sys.stderr)
    sys.exit(128 + signal.SIGTERM)


def waits_for_a_signal(folder: str) -> None:
    received = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: received.append(number))
    Path(folder, f"ready{dist.get_rank()}").write_text(str(os.getpid()))
    agreed = 0
    while not agreed:
        time.sleep(0.05)
        numbers = torch.tensor(max(received, default=0))
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        agreed = int(numbers)
    time.sleep(1)  # it saves; a signal that came twice shows by now
    Path(folder, f"received{dist.get_rank()}").write_text(json.dumps(received))
    sys.exit(128 + agreed)


def waits_before_training(folder: str) -> None:
    Path(folder, f"ready{dist.get_rank()}").write_text(str(os.getpid()))
    time.sleep(100)


def meets_for_ever(folder: str) -> None:
    Path(folder, f"ready{dist.get_rank()}").write_text(str(os.getpid()))
    meet_often(10**6)


def waits_for_a_long_search() -> None:
    """With operations that may take `SHORT`."""
    print(from_main_process(lambda: time.sleep(2.5 * SHORT) or "found"), file=sys.stderr)


def waits_for_a_search_that_fails() -> None:
    from_main_process(lambda: time.sleep(1.2 * SHORT) or read_colour())


def read_colour() -> None:
    raise InputError("train.colour: expected blue")


CASES = [
    ends_well, makes_a_mistake, crashes, has_told_why, is_killed, host_of_the_store_is_killed, stands_still,
    is_interrupted, waits_for_a_long_search, waits_for_a_search_that_fails,
]  # fmt: skip
JOBS = {
    case.__name__: case
    for case in [*CASES, all_make_a_mistake, waits_for_a_signal, waits_before_training, meets_for_ever]
}


def meet_often(times: int) -> None:
    for _ in range(times):
        dist.all_reduce(torch.ones(3))
        time.sleep(0.01)


def die_in_process(rank: int, number: int) -> None:
    meet_often(3)
    if dist.get_rank() == rank:
        os.kill(os.getpid(), number)
    meet_often(1000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fork(name: str, case, rank: int, world_size: int, port: int, folder: Path) -> int:
    """Start a process of a job in a fork, as whoever sets torchrun's variables by hand; its id."""
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(folder / f"{name}{rank}", os.O_WRONLY | os.O_CREAT), 2)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    engine.processes.watch.LIMIT, engine.processes.launch.CAUSE = LIMIT, LIMIT + 5
    if "search" in name:
        engine.processes.launch.TIMEOUT = timedelta(seconds=SHORT)
        engine.processes.agreement.SLICE = SHORT / 4
    run(lambda: launch(case, [], device_type=lambda: "cpu", join_timeout=4))
    os._exit(99)


def fork_all() -> dict[str, list]:
    """Run the cases side by side; {name: for each process (status, stderr, seconds)}."""
    folder = Path(tempfile.mkdtemp())
    started, pids = time.monotonic(), {}
    for case in CASES:
        port = free_port()
        for rank in range(2):
            pids[fork(case.__name__, case, rank, 2, port, folder)] = (case.__name__, rank)
    port = free_port()
    for rank in range(2):
        pids[fork("one_is_missing", ends_well, rank, 3, port, folder)] = ("one_is_missing", rank)
    port = free_port()
    for rank, world_size in ((0, 2), (2, 3)):
        pids[fork("sizes_differ", ends_well, rank, world_size, port, folder)] = ("sizes_differ", rank)
    port = free_port()
    for rank, place in enumerate((0, 1, 1)):
        pids[fork(f"one_rank_twice-{rank}-", ends_well, place, 3, port, folder)] = (f"one_rank_twice-{rank}-", place)
    return _collect(pids, folder, started)


def _collect(pids: dict[int, tuple[str, int]], folder: Path, started: float) -> dict[str, list]:
    results: dict[str, list] = {}
    while pids:
        pid, status = os.wait()
        name, rank = pids.pop(pid)
        stderr = (folder / f"{name}{rank}").read_text()
        results.setdefault(name, []).append(
            (rank, os.waitstatus_to_exitcode(status), stderr, time.monotonic() - started)
        )
        for other, (its_name, _) in list(pids.items()):
            if its_name == name == "stands_still":
                os.kill(other, signal.SIGKILL)
    return results


def main() -> None:
    if sys.argv[1] == "fork":
        print(json.dumps(fork_all()))
        return
    name, processes, *arguments = sys.argv[2:]
    several = {}
    if "--machine" in arguments:
        *arguments, _, rank, port = arguments
        address = f"tcp://127.0.0.1:{port}"
        several = {"num_machines": 2, "machine_rank": int(rank), "dist_url": address, "join_timeout": 6}
    launch(
        partial(JOBS[name], *arguments),
        [__file__, *sys.argv[1:]],
        device_type=lambda: "cpu",
        num_processes=int(processes),
        **several,
    )


if __name__ == "__main__":
    run(main)
