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
import time
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import torch.distributed as dist

from engine.processes.rendezvous import Address
from runtime.command_line import tell
from runtime.files import discard_unfinished

INTERVAL = 1.0  # seconds between heartbeats
LIMIT = 30.0  # seconds without a heartbeat after which a process counts as lost
DONE = "done"
# Start of gloo's messages (a place in its sources), and of nccl's where it raises no error of torch.distributed.
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

    If another process has failed or is lost, this one prints one line about it and ends with its status.

    Args:
        store: connection to the job's store for this watch alone, because an operation may block when the network
            fails.
        rank: rank of this process.
        hosts: host of every process.
        address: address of the store, for messages.
        spans_machines: whether the job runs on several machines.
    """

    def __init__(self, store: dist.Store, rank: int, hosts: list[str], address: Address, spans_machines: bool) -> None:
        self.spans_machines = spans_machines
        self._store, self._rank, self._hosts, self._address = store, rank, hosts, address
        self._signs = [""] * len(hosts)
        self._seen = [time.monotonic()] * len(hosts)
        self._failure: Failure | None = None  # of this process, or reported by another
        self._deadline: tuple[float, Failure] | None = None  # None once the process group is set up
        self._leaving = threading.Event()
        self._last_word = threading.Lock()  # held by the one thread that ends the process
        self._talker = threading.Thread(target=self._talk, name="signs of life", daemon=True)

    @contextlib.contextmanager
    def joining(self, seconds: float, message: str) -> Iterator[None]:
        """Start the watch. If the body, which initialises the process group, exceeds the limit, end with `message`.

        Missing heartbeats count only after the body. Until then the store may block, because torch looks up the name of
        every host that connects to it, which takes seconds each if the name server does not answer.
        """
        self._deadline = time.monotonic() + seconds, self._own(2, message)
        self._talker.start()
        threading.Thread(target=self._end_with_the_others, name="watch", daemon=True).start()
        yield
        self._seen = [time.monotonic()] * len(self._hosts)
        self._deadline = None

    def leave(self) -> None:
        """Announce to the others that this process is about to end successfully."""
        self._last_word.acquire()  # blocks if the watch is already ending this process
        self._leaving.set()
        self._talker.join(5 * INTERVAL)

    def report(self, status: int, message: str) -> None:
        """Report the failure of this process to the others: a one-line `message`, and its exit status."""
        self._last_word.acquire()
        self._failure = self._own(status, message)
        self._leaving.set()
        self._talker.join(5 * INTERVAL)

    def _own(self, status: int, message: str) -> Failure:
        return Failure(self._rank, self._hosts[self._rank], status, message)

    def _talk(self) -> None:
        count = 0
        keys = [f"sign/{rank}" for rank in range(len(self._hosts))]
        with contextlib.suppress(RuntimeError):  # the store is gone
            while not self._leaving.is_set():
                self._store.set(keys[self._rank], str(count))
                if self._store.check(["failure"]):
                    self._failure = Failure(**json.loads(self._store.get("failure")))
                now = time.monotonic()
                signs = [value.decode() for value in self._store.multi_get(keys)] if self._store.check(keys) else []
                for rank, sign in enumerate(signs):
                    if sign != self._signs[rank] or sign == DONE:
                        self._signs[rank], self._seen[rank] = sign, now
                self._seen[self._rank] = now
                count += 1
                self._leaving.wait(INTERVAL)
            if self._failure is not None:
                report_failure(self._store, self._failure)
            self._store.set(keys[self._rank], DONE)

    def _end_with_the_others(self) -> None:
        while not self._leaving.wait(INTERVAL / 4):
            failure = self._verdict()
            if failure is not None and self._last_word.acquire(blocking=False):
                self._end(failure)

    def _verdict(self) -> Failure | None:
        now = time.monotonic()
        if self._failure is not None and self._failure.rank == self._rank:
            return self._own(1, f"the other processes considered this one lost: {self._failure.message}")
        if self._failure is not None:
            return self._failure
        if not self._talker.is_alive() and not self._leaving.wait(INTERVAL):  # it may be leaving with the others
            return Failure(0, self._hosts[0], 1, f"the connection to the job's store at {self._address} broke")
        if self._deadline is not None:
            return self._deadline[1] if now > self._deadline[0] else None
        if now - self._seen[self._rank] > LIMIT:
            return Failure(0, self._hosts[0], 1, f"no answer from the job's store at {self._address} for {LIMIT:g} s")
        for rank, seen in enumerate(self._seen):
            if self._seen[self._rank] - seen > LIMIT:  # no heartbeat while the store answered
                return Failure(rank, self._hosts[rank], 1, f"no sign of life for {LIMIT:g} s")
        return None

    def _end(self, failure: Failure) -> NoReturn:
        if failure.rank == self._rank:
            tell(f"error: {failure.message}")
        else:
            tell(
                f"error: process {failure.rank} on {failure.host} ended: {failure.message}; "
                f"process {self._rank} ends too"
            )
        self._failure = failure
        self._leaving.set()
        self._talker.join(5 * INTERVAL)
        discard_unfinished()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(failure.status)
