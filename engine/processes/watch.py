"""A watch over the processes of a job: when one ends, the others learn why and end too.

Torch's agent ends the processes of its own machine when one fails, and no others: a collective operation waits for a
machine that is gone, nccl half an hour, gloo until the connection breaks, which on a cut wire it does not. So each
process gives a sign of life through the job's store and looks for those of the others, in threads of its own, which a
long evaluation or save does not hold up.
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

INTERVAL = 1.0  # seconds between signs of life
LIMIT = 30.0  # seconds without one, after which a process counts as lost
DONE = "done"
# How gloo begins (the place in its sources) and nccl where it raises no error of torch.distributed's own.
BROKEN_CONNECTION = re.compile(
    r"\[(enforce fail at )?\S*gloo/(transport|rendezvous)/\S+\.(cc|h):\d+\]"
    r"|Gloo connectFullMesh failed"
    r"|(\[Rank \d+\] )?NCCL (communicator|error|Error)"
)


class Failure(NamedTuple):
    """A process that ended, and the exit status the job ends with."""

    rank: int
    host: str
    status: int
    message: str


def report_failure(store: dist.Store, failure: Failure) -> None:
    """Write `failure` where all watches look, unless another has come first."""
    store.compare_set("failure", "", json.dumps(failure._asdict()))


def lost_the_others(error: BaseException | None) -> bool:
    """Whether an exception says no more than that another process is gone.

    Gloo has no exception of its own: its messages are known by how they begin, so that a path or a module that is
    named after it does not count.
    """
    while error is not None:
        if isinstance(error, dist.DistError):
            return True
        if isinstance(error, RuntimeError) and BROKEN_CONNECTION.match(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


class Watch:
    """The signs of life of one process, and its eye on the others'.

    When another process has failed, or is lost, this one prints one line that says so and ends with that status.

    Args:
        store: of the job; a connection of the watch's own, since an operation on it may hang with the network.
        rank: this process.
        hosts: the machine of every process.
        address: of the store, for messages.
        spans_machines: the job has several.
    """

    def __init__(self, store: dist.Store, rank: int, hosts: list[str], address: Address, spans_machines: bool) -> None:
        self.spans_machines = spans_machines
        self._store, self._rank, self._hosts, self._address = store, rank, hosts, address
        self._signs = [""] * len(hosts)
        self._seen = [time.monotonic()] * len(hosts)
        self._failure: Failure | None = None  # of this process, or one that another has reported
        self._deadline: tuple[float, Failure] | None = None  # None once the process group is set up
        self._leaving = threading.Event()
        self._last_word = threading.Lock()  # only one thread ends the process
        self._talker = threading.Thread(target=self._talk, name="signs of life", daemon=True)

    @contextlib.contextmanager
    def joining(self, seconds: float, message: str) -> Iterator[None]:
        """Start watching, around setting the process group up: end the process with `message` after so many seconds.

        Silence counts from the end of it on. Until then the store may stand still: torch looks up the name of everyone
        who connects to it, which takes seconds each where the name server does not answer.
        """
        self._deadline = time.monotonic() + seconds, self._own(2, message)
        self._talker.start()
        threading.Thread(target=self._end_with_the_others, name="watch", daemon=True).start()
        yield
        self._seen = [time.monotonic()] * len(self._hosts)
        self._deadline = None

    def leave(self) -> None:
        """Let the others know that this process is about to end well."""
        self._last_word.acquire()  # where the watch holds it, it ends this process now
        self._leaving.set()
        self._talker.join(5 * INTERVAL)

    def report(self, status: int, message: str) -> None:
        """Let the others know why this process is about to fail: `message` is one line, `status` its exit status."""
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
            return self._own(1, f"the others took this process for lost: {self._failure.message}")
        if self._failure is not None:
            return self._failure
        if not self._talker.is_alive() and not self._leaving.wait(INTERVAL):  # it may be leaving with the others
            return Failure(0, self._hosts[0], 1, f"the connection to the job's store at {self._address} broke")
        if self._deadline is not None:
            return self._deadline[1] if now > self._deadline[0] else None
        if now - self._seen[self._rank] > LIMIT:
            return Failure(0, self._hosts[0], 1, f"no answer from the job's store at {self._address} for {LIMIT:g} s")
        for rank, seen in enumerate(self._seen):
            if now - seen > LIMIT:
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
