"""Rendezvous: the processes of a job meet at a key-value store, whose address all of them know.

torch's own rendezvous cannot be interrupted by Ctrl-C and does not name the missing processes. After a restart it
confuses values that earlier processes left in the store with current ones (pytorch/pytorch issue 135712).
"""

import contextlib
import fcntl
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
SIOCGIFADDR = 0x8915  # from linux/sockios.h


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
    dual = socket.has_dualstack_ipv6()
    family, where = socket.AF_INET6 if dual else socket.AF_INET, ("", port)
    try:
        if host in ("localhost", "::1") or host.startswith("127."):
            dual, (family, _, _, _, where) = False, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(where[:2], family=family, dualstack_ipv6=dual) as listening:
            port, descriptor = listening.getsockname()[1], listening.detach()  # the store closes it
    except OSError as error:
        raise InputError(
            f"cannot open port {port} on this machine for the job: {error.strerror}; does an earlier run still use "
            "it? End that run, or choose another port"
        ) from error
    return dist.TCPStore(
        host,
        port,
        is_master=True,
        timeout=STORE_TIMEOUT,
        wait_for_workers=False,
        multi_tenant=True,  # torch's agent opens the same port in the same process
        master_listen_fd=descriptor,
        use_libuv=False,  # before torch 2.8 only the older server takes a socket (pytorch/pytorch pull request 150215)
    )


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
                reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
                raise InputError(
                    f"no machine 0 at {address} within {seconds:g} s: {reason}; is machine 0 started, is this "
                    "its address, and does a firewall let this machine reach that port?"
                ) from error
        time.sleep(POLL)


def meet(
    store: dist.Store, rank: int, size: int, address: Address, seconds: float, restarts: bool
) -> tuple[str, list[str]]:
    """Wait until all `size` processes of the job have joined at the store.

    If the store outlives the processes (torchrun restarts them), process 0 opens a new session each time. Only
    processes that join this session are members; each has a unique token, so earlier processes are not counted.

    Args:
        address: address of the store, for messages.
        seconds: time limit for the other processes.
        restarts: whether earlier processes may have left a session in this store.

    Returns:
        The session's name, a prefix for the keys of the job, and the host of every process. The session's keys
        `process/RANK` exist.

    Raises:
        InputError: a process is missing, two have the same rank, or they disagree about the job's size.
    """
    me = [uuid.uuid4().hex, socket.gethostname()]
    session = me[0] if restarts else JOB
    if rank == 0:
        store.set("session", json.dumps([session, size]))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if store.check(["session"]):
            session, expected = json.loads(store.get("session"))
            if not restarts and size != expected:
                raise InputError(
                    f"machine 0 started a job of {expected} processes, this machine one of {size}: give the same "
                    "--num-machines and --num-gpus on every machine"
                )
            first = json.loads(store.compare_set(f"{session}/process/{rank}", "", json.dumps(me)))
            if not restarts and first != me:
                raise InputError(
                    f"process {rank} has joined already, from {first[1]}: give every machine a --machine-rank of its "
                    "own"
                )
            keys = [f"{session}/process/{each}" for each in range(size)]
            if rank == 0 and store.check(keys):
                store.set(f"{session}/members", json.dumps([json.loads(value) for value in store.multi_get(keys)]))
            if size == expected and store.check([f"{session}/members"]):
                members = json.loads(store.get(f"{session}/members"))
                if members[rank] == me:
                    return session, [host for _, host in members]
        time.sleep(POLL)
    missing = [str(each) for each in range(size) if not store.check([f"{session}/process/{each}"])]
    raise InputError(
        f"only {size - len(missing)} of {size} processes met at {address} within {seconds:g} s (missing: "
        f"{', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}); is every machine started, with the same "
        "--dist-url, --num-machines and --num-gpus and a --machine-rank of its own, and does a firewall let it reach "
        "that port?"
    )


def first_here(message: str) -> bool:
    """Return whether this is the first call with `message` on this machine, so that only one process prints it.

    Processes that torch's agent has started use the agent's store. Others use the store of the job. Without a store,
    the result is True.
    """
    try:
        store = connect(Address(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), 0)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT")
        return store.add(f"printed/{socket.gethostname()}/{attempt}/{message}", 1) == 1
    except (InputError, RuntimeError, KeyError, ValueError):
        return True


def choose_gloo_interface(address: Address) -> None:
    """Make gloo listen on the interface from which this machine reaches `address`.

    By default gloo uses the address of this machine's host name, which is often 127.0.0.1 in /etc/hosts. If the user
    has set GLOO_SOCKET_IFNAME, it is unchanged.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or not sys.platform.startswith("linux"):
        return
    local = _local_address(address)
    if local.startswith("127.") and not address.host.startswith("127."):
        local = _local_address(Address("192.0.2.1", 9))  # reserved for documentation (RFC 5737), so the default route
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == local:
                    os.environ["GLOO_SOCKET_IFNAME"] = name


def _local_address(address: Address) -> str:
    """IPv4 address from which this machine reaches `address`. Connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(address)
        return probe.getsockname()[0]
    return ""
