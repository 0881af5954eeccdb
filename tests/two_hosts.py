"""Two machines for tests, as two network namespaces joined by a cable."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT

HOSTS = tuple(f"dinomatte-{os.getpid()}-{number}" for number in range(2))
ADDRESSES = ("10.77.0.1", "10.77.0.2")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def why_not() -> str:
    """Why two hosts cannot be made here; empty where they can. It tries, so it is asked when a test runs."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "no `ip` (Debian's package iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    made = subprocess.run(["ip", "netns", "add", f"{HOSTS[0]}-probe"], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    ip("netns", "del", f"{HOSTS[0]}-probe")
    return ""


@pytest.fixture
def hosts():
    """The two namespaces, with 10.77.0.1 and 10.77.0.2 on a veth pair, and no other way out."""
    if reason := why_not():
        pytest.skip(reason)
    for host in HOSTS:
        ip("netns", "add", host)
    ip("link", "add", "cable0", "netns", HOSTS[0], "type", "veth", "peer", "name", "cable1", "netns", HOSTS[1])
    for number, (host, address) in enumerate(zip(HOSTS, ADDRESSES, strict=True)):
        ip("-n", host, "address", "add", f"{address}/24", "dev", f"cable{number}")
        ip("-n", host, "link", "set", f"cable{number}", "up")
        ip("-n", host, "link", "set", "lo", "up")
    yield HOSTS
    for host in HOSTS:
        kill_all_on(host)
        ip("netns", "del", host)


def kill_all_on(host: str) -> None:
    for pid in pids_on(host):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pids_on(host: str) -> list[int]:
    return [int(pid) for pid in subprocess.run(["ip", "netns", "pids", host], capture_output=True).stdout.split()]


class Host:
    """A command on one of the hosts."""

    def __init__(self, number: int, command: list[str], log: Path) -> None:
        self.name, self.log = HOSTS[number], log
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, *command],
                cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds} s:\n{self.text()}") from None

    def text(self) -> str:
        return self.log.read_text()

    def errors(self) -> list[str]:
        return [line for line in self.text().splitlines() if line.startswith("error:")]


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
