"""Two machines, as two network namespaces joined by a cable: they train, and notice when the other is gone."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import CONFIG, ROOT, overrides
from two_hosts import ADDRESSES, ENVIRONMENT, HOSTS, Host, command_of, ip, kill_all_on, pids_on

from modeling.weights.checkpoint_file import read_checkpoint

PORT = 29517
MINUTE = 60 + 15  # seconds; the rest is for a busy machine

pytestmark = pytest.mark.slow


def settings(output_dir: Path, max_iter: int) -> list[str]:
    return ["--config-file", CONFIG, *overrides(output_dir, max_iter)]


def start_both(folder: Path, max_iter: int) -> list[Host]:
    """main.py on both hosts; each has a run folder of its own, as on machines that share no disk."""
    return [
        Host(
            number,
            [
                "main.py", "--num-machines", "2", "--machine-rank", str(number), "--num-gpus", "1",
                "--dist-url", f"tcp://{ADDRESSES[0]}:{PORT}", *settings(folder / f"run{number}", max_iter),
            ],
            folder / f"log{number}",
        )
        for number in range(2)
    ]  # fmt: skip


def wait_for_iteration(output_dir: Path, iteration: int, host: Host) -> None:
    deadline = time.monotonic() + 180
    while last_iteration(output_dir) < iteration:
        assert time.monotonic() < deadline, host.text()
        assert host.process.poll() is None, host.text()
        time.sleep(0.1)


def last_iteration(output_dir: Path) -> int:
    path = output_dir / "metrics.json"
    lines = path.read_text().splitlines() if path.exists() else []
    done = [-1]
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line while it is being written
            done.append(json.loads(line).get("iteration", -1))
    return done[-1]


def weights(output_dir: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(output_dir / "model_final.pth")["model"]


def train_on_this_machine(output_dir: Path, max_iter: int) -> dict[str, torch.Tensor]:
    command = [sys.executable, "main.py", "--num-gpus", "2", *settings(output_dir, max_iter)]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return weights(output_dir)


def assert_same(result: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(result[key], value), key


def test_two_hosts_train_what_one_does(hosts, tmp_path):
    both = start_both(tmp_path, 6)
    assert [host.wait(240) for host in both] == [0, 0], both[0].text() + both[1].text()
    assert both[0].errors() == both[1].errors() == []
    assert_same(weights(tmp_path / "run0"), train_on_this_machine(tmp_path / "one", 6))


def test_a_host_that_dies_ends_the_other_within_a_minute(hosts, tmp_path):
    both = start_both(tmp_path, 100_000)
    wait_for_iteration(tmp_path / "run0", 3, both[0])
    kill_all_on(HOSTS[1])
    assert both[0].wait(MINUTE) == 1
    (error,) = both[0].errors()
    assert error == f"error: process 1 on {os.uname().nodename} ended: no sign of life for 30 s; process 0 ends too"
    assert "Traceback" not in both[0].text()


def test_a_cut_cable_ends_both_within_a_minute(hosts, tmp_path):
    both = start_both(tmp_path, 100_000)
    wait_for_iteration(tmp_path / "run0", 3, both[0])
    ip("-n", HOSTS[0], "link", "set", "cable0", "down")
    assert [host.wait(MINUTE) for host in both] == [1, 1]
    assert "process 1 on" in both[0].errors()[0]
    assert "no sign of life for 30 s; process 0 ends too" in both[0].errors()[0]
    assert "job's store at 10.77.0.1:" in both[1].errors()[0]
    assert "Traceback" not in both[0].text() + both[1].text()


def test_torchrun_restarts_a_group_over_two_hosts_and_it_resumes(hosts, tmp_path):
    """What is shared is the run folder, as torchrun's restarts need: process 0 may come back on the other host."""
    arguments = [
        "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}", "--rdzv-id", "dinomatte",
    ]  # fmt: skip
    script = ["main.py", "--resume", *settings(tmp_path / "run", 40)]
    both = []
    for number, address in enumerate(ADDRESSES):
        # torchrun finds out which host it is by name, and both have this machine's
        its_own = ["--local-addr", address, "--rdzv-conf", f"is_host={1 - number}"]
        both.append(Host(number, [*arguments, *its_own, *script], tmp_path / f"log{number}"))
    wait_for_iteration(tmp_path / "run", 8, both[0])
    worker = [pid for pid in pids_on(HOSTS[1]) if b"torch.distributed.run" not in command_of(pid)]
    os.kill(max(worker), signal.SIGKILL)
    assert [host.wait(300) for host in both] == [0, 0], both[0].text() + both[1].text()
    starts = {int(start) for host in both for start in re.findall(r"training from iteration (\d+) to 40", host.text())}
    assert len(starts) == 2, starts
    assert max(starts) >= 8
    assert_same(weights(tmp_path / "run"), train_on_this_machine(tmp_path / "one", 40))
