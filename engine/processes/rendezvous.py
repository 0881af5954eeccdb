"""Rendezvous: the processes of a job meet at a key-value store, whose address all of them know.

torch's own rendezvous cannot be interrupted by Ctrl-C and does not name the missing processes. After a restart it
confuses values that earlier processes left in the store with current ones (pytorch/pytorch issue 135712).
"""

import json
import os
import socket
import struct
import sys
import time
import uuid
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

import torch.distributed as dist

from runtime.errors import InputError

JOB = "main.py"  # the session of a job that is started once, and its name for the elastic launcher
LOOPBACK = "127.0.0.1"
STORE_TIMEOUT = timedelta(seconds=60)
POLL = 0.1  # seconds
PLURALS = {"machine": "machines", "process": "processes"}
WHAT_TO_CHECK = (
    "is every machine started, with the same --dist-url, --num-machines and --num-gpus and a --machine-rank of its "
    "own, and does a firewall let it reach that port?"
)


class Address(NamedTuple):
    """Host and TCP port of the store."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read tcp://HOST:PORT.

        Raises:
            InputError: another scheme, no host, no port.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is no number, or too large; unbalanced brackets
            host = port = None
        if host is None or not port or parts.scheme != "tcp" or parts.path.strip("/"):
            raise InputError(
                f"--dist-url: expected tcp://HOST:PORT of machine 0, with a port from 1 to 65535, got {url!r}"
            )
        return cls(host, port)


def open_store(address: Address) -> dist.TCPStore:
    """Open the store of a job on this machine. Port 0 chooses a free port (see `port` of the store).

    The store accepts writes from any host that can reach it. With a loopback address, only this machine can. With any
    other address it listens on all interfaces, because a name may resolve differently on each machine.

    Raises:
        InputError: the port is in use.
    """
    host, port = address
    descriptor = None
    try:
        if host in ("localhost", "::1") or host.startswith("127."):
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.create_server(where[:2], family=family) as listening:
                port, descriptor = listening.getsockname()[1], listening.detach()  # the store closes it
        return dist.TCPStore(
            host,
            port,
            is_master=True,
            timeout=STORE_TIMEOUT,
            wait_for_workers=False,
            multi_tenant=True,  # torch's agent opens the same port in the same process
            master_listen_fd=descriptor,
        )
    except (OSError, dist.DistNetworkError) as error:
        raise InputError(
            f"cannot open port {port} on this machine for the job: {_reason(error)}; does an earlier run "
            "still hold it? End that, or choose another port"
        ) from error


def connect(address: Address, seconds: float) -> dist.TCPStore:
    """Connect to the store. It may start later.

    Raises:
        InputError: the host is unknown, or there was no answer within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(address, timeout=5).close()  # failed attempts of torch would write to stderr
            return dist.TCPStore(*address, timeout=STORE_TIMEOUT, wait_for_workers=False)
        except socket.gaierror as error:
            raise InputError(f"the address {address} of machine 0: unknown host {address.host!r}") from error
        except (OSError, dist.DistError) as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"no machine 0 at {address} within {seconds:g} s: {_reason(error)}; is machine 0 started, is this "
                    "its address, and does a firewall let this machine reach that port?"
                ) from error
        time.sleep(POLL)


def meet(
    store: dist.Store,
    rank: int,
    size: int,
    kind: str,
    shape: str,
    address: Address,
    seconds: float,
    restarts: bool = False,
) -> tuple[str, list[str]]:
    """Wait until all `size` members of the job have joined at the store.

    If the store outlives the processes (torchrun restarts them), process 0 opens a new session each time. Only
    processes that join this session are members; each has a unique token, so earlier processes are not counted.

    Args:
        kind: kind of members, "machine" or "process".
        shape: sizes of the job in words, the same for all members.
        address: address of the store, for messages.
        seconds: time limit for the other members.
        restarts: whether earlier processes may have left a session in this store.

    Returns:
        The session's name, a prefix for the keys of the job, and the host of every member.

    Raises:
        InputError: a member is missing, two have the same rank, or the members disagree about the job's size.
    """
    me = [uuid.uuid4().hex, socket.gethostname()]
    session = me[0] if restarts else JOB
    if rank == 0:
        store.set("session", json.dumps([session, shape]))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if store.check(["session"]):
            session, expected = json.loads(store.get("session"))
            if not restarts and shape != expected:
                raise InputError(
                    f"machine 0 started a job of {expected}, this machine one of {shape}: give the same "
                    "--num-machines and --num-gpus on every machine"
                )
            first = json.loads(store.compare_set(f"{session}/join/{rank}", "", json.dumps(me)))
            if not restarts and first != me:
                raise InputError(
                    f"{kind} {rank} has joined already, from {first[1]}: give every machine a --machine-rank of its own"
                )
            keys = [f"{session}/join/{each}" for each in range(size)]
            if rank == 0 and store.check(keys):
                store.set(f"{session}/members", json.dumps([json.loads(store.get(key)) for key in keys]))
            if shape == expected and store.check([f"{session}/members"]):
                joined = json.loads(store.get(f"{session}/members"))
                if joined[rank] == me:
                    return session, [host for _, host in joined]
        time.sleep(POLL)
    missing = [str(each) for each in range(size) if not store.check([f"{session}/join/{each}"])]
    raise InputError(
        f"only {size - len(missing)} of {size} {PLURALS[kind]} met at {address} within {seconds:g} s (missing: "
        f"{', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}); {WHAT_TO_CHECK}"
    )


def choose_gloo_interface(address: Address) -> None:
    """Make gloo listen on an interface that the other machines can reach.

    By default gloo uses the address of this machine's host name, which is often 127.0.0.1 in /etc/hosts. If the user
    has set GLOO_SOCKET_IFNAME, it is unchanged.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or not sys.platform.startswith("linux"):
        return
    local = _local_address(address)
    if local.startswith("127.") and not address.host.startswith("127."):
        local = _local_address(Address("192.0.2.1", 9))  # reserved for documentation (RFC 5737), so the default route
    for _, name in socket.if_nameindex():
        if _interface_address(name) == local:
            os.environ["GLOO_SOCKET_IFNAME"] = name


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0]
    return "Address already in use" if "EADDRINUSE" in text else text[:200]


def _local_address(address: Address) -> str:
    """IPv4 address from which this machine reaches `address`. Connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return ""
        return probe.getsockname()[0]


def _interface_address(name: str) -> str | None:
    import fcntl  # not on Windows

    siocgifaddr = 0x8915  # from linux/sockios.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, siocgifaddr, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
