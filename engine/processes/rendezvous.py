"""Where the processes of a job meet: a key-value store at an address all of them know."""

import errno
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

JOB = "job"  # the session of a job that is started once
STORE_TIMEOUT = timedelta(seconds=60)
POLL = 0.1  # seconds
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


def parse_address(url: str) -> Address:
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
        raise InputError(f"--dist-url: expected tcp://HOST:PORT of machine 0, with a port from 1 to 65535, got {url!r}")
    return Address(host, port)


def serve(address: Address) -> dist.TCPStore:
    """Open the store of a job on this machine; with port 0 on any free one (see its `port`).

    At a loopback address only this machine can reach it: whoever reaches a store can write to it. At others it listens
    on all interfaces, since a name may have one address here and another elsewhere.

    Raises:
        InputError: the port is taken.
    """
    try:
        port, descriptor = _listen_on_loopback(address) if _is_loopback(address.host) else (address.port, None)
        return dist.TCPStore(
            address.host,
            port,
            is_master=True,
            timeout=STORE_TIMEOUT,
            wait_for_workers=False,
            master_listen_fd=descriptor,  # the store closes it
        )
    except (OSError, dist.DistNetworkError) as error:
        raise InputError(
            f"cannot open port {address.port} on this machine for the job: {_first_line(error)}; does an earlier run "
            "still hold it? End that, or choose another port"
        ) from error


def connect(address: Address, seconds: float) -> dist.TCPStore:
    """Connect to the store, which may come up later.

    Raises:
        InputError: the name is unknown, or nobody answered within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        reason = _reach(address)
        if reason is None:
            try:
                store = dist.TCPStore(*address, timeout=timedelta(seconds=seconds), wait_for_workers=False)
                store.set_timeout(STORE_TIMEOUT)
                return store
            except dist.DistError as error:  # it answered a moment ago, so it may again
                reason = _first_line(error)
        if time.monotonic() > deadline:
            raise InputError(
                f"no machine 0 at {address} within {seconds:g} s: {reason}; is machine 0 started, is this its address, "
                "and does a firewall let this machine reach that port?"
            )
        time.sleep(POLL)


def meet(
    store: dist.Store, rank: int, world_size: int, *, address: Address, seconds: float, restarts: bool = False
) -> tuple[str, list[str]]:
    """Wait until every process of the job has come to the store.

    Where a store outlives its processes (torchrun restarts them), process 0 opens a new session each time, and only
    processes that answer to it belong: what earlier ones left behind is told apart by their tokens.

    Args:
        store: of the job, at `address`.
        rank, world_size: of this process and of the job.
        address: named in messages.
        seconds: how long to wait for the others.
        restarts: earlier processes may have left a session in this store.

    Returns:
        The session's name, a prefix for the keys of the job, and the host of every process.

    Raises:
        InputError: some process did not come, another has this rank, or the machines disagree about the job's size.
    """
    token = uuid.uuid4().hex
    me = json.dumps({"token": token, "host": socket.gethostname()})
    session = token if restarts else JOB
    if rank == 0:
        store.set("session", json.dumps([session, world_size]))
        store.set(f"{session}/join/0", me)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if rank == 0 or store.check(["session"]):
            session, size = json.loads(store.get("session"))
            members = _join(store, session, size, rank, world_size, me, may_be_stale=restarts)
            if members is not None and members[rank]["token"] == token:
                return session, [member["host"] for member in members]
        time.sleep(POLL)
    missing = [str(r) for r in range(world_size) if not store.check([f"{session}/join/{r}"])]
    raise InputError(
        f"only {world_size - len(missing)} of {world_size} processes met at {address} within {seconds:g} s (missing: "
        f"{', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}); {WHAT_TO_CHECK}"
    )


def choose_gloo_interface(address: Address) -> None:
    """Let gloo listen where the other machines can reach this one.

    Left alone it takes the address of this machine's host name, which /etc/hosts often gives as 127.0.0.1. The variable
    GLOO_SOCKET_IFNAME, where the user has set it, stays.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or not sys.platform.startswith("linux"):
        return
    local = _local_address(address)
    if local.startswith("127.") and not _is_loopback(address.host):
        local = _local_address(Address("192.0.2.1", 9))  # an address of documentation (RFC 5737): the default route
    for _, name in socket.if_nameindex():
        if _interface_address(name) == local:
            os.environ["GLOO_SOCKET_IFNAME"] = name


def _join(
    store: dist.Store, session: str, size: int, rank: int, world_size: int, me: str, *, may_be_stale: bool
) -> list[dict[str, str]] | None:
    """Join a session of `size` processes; its members once they are complete."""
    if not may_be_stale and size != world_size:
        raise InputError(
            f"machine 0 started a job of {size} processes, this machine one of {world_size}: give the same "
            "--num-machines and --num-gpus on every machine"
        )
    first = store.compare_set(f"{session}/join/{rank}", "", me).decode()
    if not may_be_stale and first != me:
        raise InputError(
            f"process {rank} has joined already, from {json.loads(first)['host']}: give every machine a "
            "--machine-rank of its own"
        )
    if not may_be_stale and store.check([f"{session}/failure"]):
        told = json.loads(store.get(f"{session}/failure"))
        raise InputError(f"process {told['rank']} on {told['host']} ended before all had met: {told['message']}")
    keys = [f"{session}/join/{r}" for r in range(size)]
    if rank == 0 and store.check(keys):
        store.set(f"{session}/members", json.dumps([json.loads(store.get(key)) for key in keys]))
    if size != world_size or not store.check([f"{session}/members"]):
        return None
    return json.loads(store.get(f"{session}/members"))


def _reach(address: Address) -> str | None:
    """Why nobody answers at `address`, None where somebody does: a connection without torch's own log lines."""
    try:
        socket.create_connection(address, timeout=5).close()
    except socket.gaierror as error:
        raise InputError(f"the address {address} of machine 0: unknown host {address.host!r}") from error
    except OSError as error:
        return error.strerror or str(error)
    return None


def _listen_on_loopback(address: Address) -> tuple[int, int]:
    """Open a socket that listens at `address`; its port and descriptor. Torch itself would listen on all interfaces.

    Raises:
        OSError: the port is taken.
    """
    family, kind, protocol, _, where = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose last connections still time out
        listening.bind(where)
        listening.listen(socket.SOMAXCONN)
        return listening.getsockname()[1], listening.detach()


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0]
    return os.strerror(errno.EADDRINUSE) if "EADDRINUSE" in text else text[:200]


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _local_address(address: Address) -> str:
    """The IPv4 address this machine would use to reach `address`; connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return ""
        return probe.getsockname()[0]


def _interface_address(name: str) -> str | None:
    siocgifaddr = 0x8915  # from linux/sockios.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, siocgifaddr, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])
