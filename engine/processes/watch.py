"""Watch over the processes of a job: if one fails, the others report the reason and end too.

torch's agent only ends the processes of its own machine. A collective operation waits for a lost machine: with nccl for
half an hour, with gloo until the connection breaks, which never happens when a cable is cut. Each process therefore
sends heartbeats ("signs") through the job's store and checks those of the others. This happens in separate threads,
which a long evaluation or save does not block.
"""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from typing import Any, NamedTuple, NoReturn

import torch.distributed as dist

from engine.processes.rendezvous import Address, first_here
from runtime.command_line import tell
from runtime.files import discard_unfinished

INTERVAL = 1.0  # seconds between heartbeats
LIMIT = 30.0  # seconds without a heartbeat after which a process counts as lost
DONE = "done"
# Start of gloo's messages (a place in its sources), and of nccl's if it does not raise an error of torch.distributed.
BROKEN_CONNECTION = re.compile(
    r"\[(enforce fail at )?\S*gloo/(transport|rendezvous)/\S+\.(cc|h):\d+\]"
    r"|Gloo connectFullMesh failed"
    r"|(\[Rank \d+\] )?NCCL (communicator|error|Error)"
)


class Failure(NamedTuple):
    """A failed process, and the exit status of the job."""

    rank: int
    host: str
    status: int
    message: str


def report_failure(store: dist.Store, failure: Failure) -> None:
    """Write `failure` to the store for all watches, unless another failure is already there."""
    store.compare_set("failure", "", json.dumps(failure._asdict()))


def lost_the_others(error: BaseException | None) -> bool:
    """Return whether an exception only means that the connection to another process broke.

    gloo has no exception class. Its messages are recognised by their start, so that "gloo" in a path or in the name of
    a module does not count.
    """
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if isinstance(error, RuntimeError) and BROKEN_CONNECTION.match(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


class Watch:
    """Heartbeats of one process, and the check of the other processes' heartbeats.

    If another process has failed or is lost, this process ends with the status of the failed process. One process of
    each machine prints a line about it.

    Args:
        store: connection to the session in the job's store for this watch alone, because an operation may block when
            the network fails.
        rank: rank of this process.
        hosts: host of every process.
        address: address of the store, for messages.
    """

    def __init__(self, store: dist.Store, rank: int, hosts: list[str], address: Address) -> None:
        self._store, self._rank, self._hosts, self._address = store, rank, hosts, address
        self._keys = [f"process/{each}" for each in range(len(hosts))]
        self._signs, self._silent = [b""] * len(hosts), [0] * len(hosts)
        self._leaving = threading.Event()
        self._last_word = threading.Lock()  # held by the one thread that ends the process
        self._talker = ThreadPoolExecutor(1, thread_name_prefix="signs of life")

    def start(self) -> None:
        """Start to send heartbeats, once the process group is set up.

        Until then the store may block, because torch looks up the name of every host that connects to it, which takes
        seconds each if the name server does not answer.
        """
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def leave(self) -> None:
        """Announce to the others that this process is about to end successfully."""
        self._stop(lambda: self._store.set(self._keys[self._rank], DONE))

    def report(self, status: int, message: str) -> None:
        """Report the failure of this process to the others: a one-line `message`, and its exit status."""
        failure = Failure(self._rank, self._hosts[self._rank], status, message)
        self._stop(lambda: report_failure(self._store, failure))

    def _stop(self, last: Callable[[], Any]) -> None:
        self._last_word.acquire()  # blocks if the watch is already ending this process
        self._leaving.set()
        with contextlib.suppress(RuntimeError, TimeoutError):  # the store is gone or silent
            self._talker.submit(last).result(5 * INTERVAL)

    def _watch(self) -> None:
        failure, count = None, 0
        while failure is None and not self._leaving.wait(INTERVAL):
            count += 1
            try:
                failure = self._talker.submit(self._exchange, str(count)).result(LIMIT)
            except TimeoutError:
                failure = self._lost(0, f"no answer from the job's store at {self._address} for {LIMIT:g} s")
            except RuntimeError:
                if not self._leaving.wait(5 * INTERVAL):  # it may be leaving with the others
                    failure = self._lost(0, f"the connection to the job's store at {self._address} broke")
        if failure is not None and self._last_word.acquire(blocking=False):
            self._end(failure)

    def _exchange(self, sign: str) -> Failure | None:
        """Send a heartbeat, and read the heartbeats and the failure of the others."""
        self._store.set(self._keys[self._rank], sign)
        if self._store.check(["failure"]):
            return Failure(**json.loads(self._store.get("failure")))
        for rank, sign in enumerate(self._store.multi_get(self._keys)):
            came = sign != self._signs[rank] or sign == DONE.encode()
            self._signs[rank], self._silent[rank] = sign, 0 if came else self._silent[rank] + 1
            if self._silent[rank] * INTERVAL >= LIMIT:  # while the store answered
                return self._lost(rank, f"no sign of life for {LIMIT:g} s")
        return None

    def _lost(self, rank: int, message: str) -> Failure:
        return Failure(rank, self._hosts[rank], 1, message)

    def _end(self, failure: Failure) -> NoReturn:
        if failure.rank == self._rank:
            line = f"error: the other processes considered this one lost: {failure.message}"
        else:
            ended = f"process {failure.rank} on {failure.host} ended: {failure.message}"
            line = f"error: {ended}; process {self._rank} ends too"
        if first_here(failure.message):
            tell(line)
        with contextlib.suppress(RuntimeError, TimeoutError):
            self._talker.submit(report_failure, self._store, failure).result(5 * INTERVAL)
        discard_unfinished()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(failure.status)
