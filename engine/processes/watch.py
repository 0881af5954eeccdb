"""A watch over the processes of a job: when one ends, the others learn why and end too.

A collective operation waits for a process that is gone: nccl half an hour, gloo until the connection breaks, which on a
cut wire it does not. So each process gives a sign of life through the job's store and looks for those of the others,
in threads of its own, which a long evaluation or save does not hold up.
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

from data.training.decoded_cache import close_caches
from runtime.command_line import tell
from runtime.files import discard_unfinished

INTERVAL = 1.0  # seconds between signs of life
LIMIT = 30.0  # seconds without one, after which a process counts as lost
FAREWELL = 5.0  # seconds a process takes at most to say that it leaves
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


def mark_done(store: dist.Store, ranks: list[int]) -> None:
    """Say for processes that have ended, perhaps without a word, that nobody need wait for them."""
    for rank in ranks:
        store.set(_sign(rank), DONE)


def wait_until_done(store: dist.Store, world_size: int, seconds: float) -> None:
    """Wait until every process has said that it leaves: the store must outlive the last who reads it."""
    deadline = time.monotonic() + seconds
    keys = [_sign(rank) for rank in range(world_size)]
    while time.monotonic() < deadline:
        if store.check(keys) and all(value.decode() == DONE for value in store.multi_get(keys)):
            return
        time.sleep(0.1)


class Watch:
    """The signs of life of one process, and its eye on the others'.

    When another process has failed, or is lost, this one prints one line that says so and ends with that status.

    Args:
        store: of the job; a connection of the watch's own, since an operation on it may hang with the network.
        rank: this process.
        hosts: the machine of every process.
        place: the store's address, for messages.
    """

    def __init__(self, store: dist.Store, rank: int, hosts: list[str], place: str) -> None:
        self.rank, self.hosts, self.place = rank, hosts, place
        self._store = store
        self._signs = [""] * len(hosts)
        now = time.monotonic()
        self._seen = [now] * len(hosts)
        self._contact = now
        self._store_error: str | None = None
        self._reported: Failure | None = None
        self._own_failure: Failure | None = None
        self._deadline: tuple[float, str] | None = None  # None once the process group stands
        self._leaving = threading.Event()
        self._last_word = threading.Lock()  # one thread alone ends the process
        self._talker = threading.Thread(target=self._talk, name="signs of life", daemon=True)
        self._judge = threading.Thread(target=self._end_with_the_others, name="watch", daemon=True)

    def start(self) -> None:
        self._talker.start()
        self._judge.start()

    def leave(self) -> None:
        """Tell the others that this process is about to end well."""
        self._leave(None)

    def report(self, status: int, message: str) -> None:
        """Tell the others why this process is about to fail: `message` is one line, `status` its exit status."""
        self._leave(self._about_itself(status, message))

    def wait_for_cause(self, seconds: float) -> None:
        """Give the watch time to learn who caused a broken connection; where it does, this does not return."""
        time.sleep(seconds)

    @contextlib.contextmanager
    def joining(self, seconds: float, message: str) -> Iterator[None]:
        """Around setting the process group up: end the process with `message` after so many seconds.

        Silence counts from the end of it on. Until then the store may stand still: torch looks up the name of everyone
        who connects to it, which takes seconds each where the name server does not answer.
        """
        self._deadline = (time.monotonic() + seconds, message)
        yield
        self._contact = time.monotonic()
        self._seen = [self._contact] * len(self.hosts)
        self._deadline = None

    def _leave(self, failure: Failure | None) -> None:
        self._last_word.acquire()  # where the watch holds it, it ends this process now
        self._own_failure = failure
        self._leaving.set()
        self._talker.join(FAREWELL)

    def _talk(self) -> None:
        count = 0
        try:
            while not self._leaving.is_set():
                self._store.set(_sign(self.rank), str(count))
                self._read()
                self._contact = time.monotonic()
                count += 1
                self._leaving.wait(INTERVAL)
            if self._own_failure is not None:
                report_failure(self._store, self._own_failure)
            self._store.set(_sign(self.rank), DONE)
        except RuntimeError as error:
            self._store_error = str(error).splitlines()[0][:200]

    def _read(self) -> None:
        keys = [_sign(rank) for rank in range(len(self.hosts))]
        if self._store.check(["failure"]):
            self._reported = Failure(**json.loads(self._store.get("failure")))
        if not self._store.check(keys):  # some process has yet to give its first
            return
        now = time.monotonic()
        for rank, value in enumerate(self._store.multi_get(keys)):
            sign = value.decode()
            if sign != self._signs[rank] or sign == DONE:
                self._signs[rank], self._seen[rank] = sign, now

    def _end_with_the_others(self) -> None:
        while not self._leaving.wait(INTERVAL / 4):
            failure = self._verdict()
            if failure is not None and self._last_word.acquire(blocking=False):
                self._end(failure)

    def _verdict(self) -> Failure | None:
        now = time.monotonic()
        if self._reported is not None and self._reported.rank == self.rank:
            return self._about_itself(1, f"the others took this process for lost: {self._reported.message}")
        if self._reported is not None:
            return self._reported
        if self._store_error is not None:
            return self._out_of_touch(f"the connection to the job's store at {self.place} broke ({self._store_error})")
        if self._deadline is not None:
            return self._about_itself(2, self._deadline[1]) if now > self._deadline[0] else None
        if now - self._contact > LIMIT:
            return self._out_of_touch(f"no answer from the job's store at {self.place} for {LIMIT:g} s")
        for rank, seen in enumerate(self._seen):
            if now - seen > LIMIT and rank != self.rank:
                return Failure(rank, self.hosts[rank], 1, f"no sign of life for {LIMIT:g} s")
        return None

    def _about_itself(self, status: int, message: str) -> Failure:
        return Failure(self.rank, self.hosts[self.rank], status, message)

    def _out_of_touch(self, reason: str) -> Failure:
        return Failure(0, self.hosts[0], 1, reason)

    def _end(self, failure: Failure) -> NoReturn:
        if failure.rank == self.rank:
            tell(f"error: {failure.message}")
        else:
            tell(
                f"error: process {failure.rank} on {failure.host} ended: {failure.message}; "
                f"process {self.rank} ends too"
            )
        self._own_failure = failure
        self._leaving.set()
        self._talker.join(FAREWELL if self._store_error is None else 0)
        discard_unfinished()
        close_caches()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(failure.status)


def _sign(rank: int) -> str:
    return f"sign/{rank}"
