"""Jobs of several processes: the same as one process, and every way in which they end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall
from detectron2.utils import comm
from in_two_processes import in_two_processes
from jobs import LIMIT, free_port
from tiny import CONFIG, ROOT, overrides

from data.synthetic import SyntheticMatting
from engine.config import build, load_config
from engine.processes.launch import launch
from engine.processes.rendezvous import Address, choose_gloo_interface, connect, open_store
from engine.training.run import _distributed, train
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "RES_OPTIONS": "timeout:1 attempts:1", "PYTHONUNBUFFERED": "1"}


def settings(output_dir, batch_size: int, *more: str) -> list[str]:
    """Five iterations whose model draws nothing, since each process draws for itself; its statistics are fixed."""
    return overrides(
        output_dir,
        5,
        f"dataloader.train.batch_size={batch_size}",
        "model.backbone.drop_path_rate=0",
        "model.backbone.rope_rescale=null",
        "train.freeze_batch_norm=1.0",
        *more,
    )


def in_each_of_two_processes(folder: str) -> None:
    rank = torch.distributed.get_rank()
    config = load_config(CONFIG, settings(f"{folder}/run", 2))
    batches = iter(build(config.dataloader.train))
    torch.save([next(batches)["image"] for _ in range(3)], f"{folder}/batches{rank}.pth")
    model = train(config)
    torch.save(torch.nn.utils.parameters_to_vector(model.parameters()), f"{folder}/weights{rank}.pth")
    train(load_config(CONFIG, settings(f"{folder}/micro", 1, "train.accumulate=2")))
    config = load_config(CONFIG, settings(f"{folder}/spoiled", 1))
    config.dataloader.train.dataset = LazyCall(SpoiledOnRank0)(size=64, samples_per_epoch=100)
    try:
        train(config)
    except InputError as error:
        Path(folder, f"error{rank}").write_text(str(error))


class SpoiledOnRank0(SyntheticMatting):
    """The first process gets a NaN in its alphas."""

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        if torch.distributed.get_rank() == 0:
            sample["alpha"][0, 3, 4] = float("nan")
        return sample


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(in_each_of_two_processes, str(folder))
    return folder


def test_two_processes_see_the_batches_of_one_and_log_the_same_losses(two_processes, tmp_path):
    config = load_config(CONFIG, settings(tmp_path, 4))
    whole = iter(build(config.dataloader.train))
    halves = [torch.load(two_processes / f"batches{rank}.pth") for rank in range(2)]
    for first, second in zip(*halves, strict=True):
        dealt = torch.stack([first, second], dim=1).flatten(0, 1)  # one order, dealt in turn
        assert torch.equal(dealt, next(whole)["image"])
    train(config)
    one, two = logged(tmp_path), logged(two_processes / "run")
    assert len(one) == len(two) == 5
    for name in one[0]:
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-5), name
    weights, others = (read_checkpoint(d / "model_final.pth")["model"] for d in (tmp_path, two_processes / "run"))
    for key, value in weights.items():
        torch.testing.assert_close(others[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_processes_hold_the_same_weights_after_training(two_processes):
    first, second = (torch.load(two_processes / f"weights{rank}.pth") for rank in range(2))
    assert torch.equal(first, second)


def test_micro_batches_of_two_processes_make_the_steps_of_one_batch(two_processes, tmp_path):
    train(load_config(CONFIG, settings(tmp_path, 4)))
    for ours, theirs in zip(logged(tmp_path), logged(two_processes / "micro"), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5)


def test_every_process_names_the_sample_of_one_that_is_not_finite(two_processes):
    for rank in range(2):
        message = (two_processes / f"error{rank}").read_text()
        assert re.match(r"loss is not finite at iteration 0 \(process 0\): .*=nan.*not finite: alpha of \w+;", message)


def logged(output_dir) -> list[dict[str, float]]:
    lines = map(json.loads, (output_dir / "metrics.json").read_text().splitlines())
    return [{k: v for k, v in line.items() if "loss" in k} for line in lines if "total_loss" in line]


@pytest.fixture(scope="module")
def ended():
    """How each process of the cases in jobs.py ended: {case: {rank: (status, stderr, seconds since the start)}}."""
    command = [sys.executable, str(ROOT / "tests" / "jobs.py"), "fork"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    cases = json.loads(result.stdout)
    return {case: {rank: (status, *rest) for rank, status, *rest in rows} for case, rows in cases.items()}


@pytest.mark.parametrize(
    ("case", "failed", "statuses", "message"),
    [
        ("is_killed", 1, (1, -9), f"no sign of life for {LIMIT:g} s"),
        ("stands_still", 1, (1, -9), f"no sign of life for {LIMIT:g} s"),  # -9: by the test, at its end
        ("host_of_the_store_is_killed", 0, (-9, 1), "the connection to the job's store at 127.0.0.1:"),
    ],
)
def test_the_others_end_with_the_error_of_a_process_that_failed(ended, case, failed, statuses, message):
    processes = ended[case]
    assert tuple(processes[rank][0] for rank in range(2)) == statuses
    _, stderr, seconds = processes[1 - failed]
    assert stderr.startswith(f"error: process {failed} on {os.uname().nodename} ended: {message}")
    assert stderr.endswith(f"; process {1 - failed} ends too\n")
    assert stderr.count("\n") == 1
    assert seconds < LIMIT + 15


def test_the_others_end_with_the_status_of_a_process_that_has_reported_its_error(ended):
    for case, status in (("makes_a_mistake", 2), ("crashes", 1), ("has_told_why", 1)):
        assert [ended[case][rank][0] for rank in range(2)] == [status, status]
        assert ended[case][0][1] == ""
        assert ended[case][0][2] < LIMIT + 15
    assert ended["has_told_why"][1][1] == "error: loss is not finite at iteration 3\n"
    assert ended["makes_a_mistake"][1][1] == "error: train.colour: expected blue\n"
    assert ended["crashes"][1][1].startswith("Traceback")
    assert ended["crashes"][1][1].endswith("ZeroDivisionError: a bug\n")


def test_a_long_save_on_one_process_and_a_normal_end_alarm_nobody(ended):
    assert [ended["ends_well"][rank][:2] for rank in range(2)] == [(0, ""), (0, "")]
    assert ended["ends_well"][0][2] > 1.5 * LIMIT


def test_a_stop_all_agree_on_waits_for_the_one_that_saves(ended):
    assert [ended["is_interrupted"][rank][:2] for rank in range(2)] == [(143, "saved by 0\n"), (143, "saved by 1\n")]


def test_all_wait_for_what_takes_the_main_process_longer_than_one_operation_may(ended):
    assert [ended["waits_for_a_long_search"][rank][:2] for rank in range(2)] == [(0, "found\n")] * 2
    failed = ended["waits_for_a_search_that_fails"]
    assert [failed[rank][0] for rank in range(2)] == [2, 2]
    assert failed[0][1] + failed[1][1] == "error: train.colour: expected blue\n"


def test_machines_that_do_not_meet_say_so_in_one_line(ended):
    missing = [ended["one_is_missing"][rank] for rank in range(2)]
    assert [status for status, *_ in missing] == [2, 2]
    stderr = "".join(text for _, text, _ in missing)
    assert stderr.count("\n") == 1
    assert "only 2 of 3 processes met at 127.0.0.1:" in stderr
    assert "within 4 s (missing: 2); is every machine started" in stderr
    status, stderr, _ = ended["sizes_differ"][2]
    assert (status, stderr.count("\n")) == (2, 1)
    assert "machine 0 started a job of 2 processes, this machine one of 3" in stderr
    twice = [ended[f"one_rank_twice-{place}-"] for place in range(3)]
    assert [status for processes in twice for status, *_ in processes.values()] == [2, 2, 2]
    assert "process 1 has joined already, from" in "".join(text for p in twice for _, text, _ in p.values())


class Started:
    """A job that main.py's launcher runs, in a process group of its own like a command in a terminal."""

    def __init__(self, name: str, folder, *machine: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "jobs.py"), "launch", name, "2", str(folder), *machine],
            env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait_until_ready(self) -> list[int]:
        """The ids of its two processes, once they are at work."""
        paths = [self.folder / f"ready{rank}" for rank in range(2)]
        for _ in range(600):
            if all(path.exists() and path.read_text() for path in paths):
                return [int(path.read_text()) for path in paths]
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.1)
        raise AssertionError("the processes did not start")

    def end(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_signal_reaches_every_process_once_and_its_status_comes_back(tmp_path, number):
    job = Started("waits_for_a_signal", tmp_path)
    job.wait_until_ready()
    os.killpg(job.process.pid, number)  # as a terminal does
    assert job.end() == (128 + number, "")
    assert [json.loads((tmp_path / f"received{rank}").read_text()) for rank in range(2)] == [[number], [number]]


def test_sigterm_before_training_is_one_word(tmp_path):
    job = Started("waits_before_training", tmp_path)
    job.wait_until_ready()
    job.process.terminate()
    assert job.end() == (143, "terminated\n")


@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--nproc-per-node", "2"]])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.sync_batch_norm=True", "error: train.sync_batch_norm=True: expected GPUs"),
        ("train.init_checkpoint=missing.pth", "error: missing.pth: "),
        ("train.no_such_key.deeper=1", "error: "),
        ("model.backbone.ffn=glu", "error: ViT: ffn: expected one of mlp, swiglu, got 'glu'"),
    ],
)
@pytest.mark.slow
def test_a_mistake_of_all_processes_is_printed_once(tmp_path, launcher, setting, message):
    command = [*launcher, "main.py", "--config-file", CONFIG, *([] if launcher else ["--num-gpus", "2"])]
    result = subprocess.run(
        [sys.executable, *command, *settings(tmp_path / "run", 2, setting)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(message)
    assert result.returncode == (1 if launcher else 2)  # torchrun's own status after any failure
    assert launcher or result.stderr.count("\n") == 1, result.stderr


def test_a_killed_process_ends_the_job_with_one_line_that_names_it(tmp_path):
    job = Started("meets_for_ever", tmp_path)
    os.kill(job.wait_until_ready()[1], signal.SIGKILL)
    status, stderr = job.end()
    assert status == 137
    assert stderr == f"error: process 1 on {os.uname().nodename} ended: killed by SIGKILL\n"


@pytest.mark.slow
def test_no_process_outlives_its_launcher(tmp_path):
    job = Started("meets_for_ever", tmp_path)
    pids = job.wait_until_ready()
    job.process.kill()
    job.end()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_while_the_processes_start_is_one_word(tmp_path):
    job = Started("meets_for_ever", tmp_path)
    children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children")
    while len(children.read_text().split()) < 2:
        assert job.process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("url", "address"),
    [("tcp://node-0:29500", ("node-0", 29500)), ("tcp://[fd00::1]:80", ("fd00::1", 80)), ("tcp://10.0.0.1:1/", None)],
)
def test_addresses_are_read(url, address):
    assert Address.parse(url) == (address or ("10.0.0.1", 1))


@pytest.mark.parametrize(
    "url",
    ["env://", "node-0:29500", "tcp://node-0", "tcp://:80", "tcp://a:0", "tcp://a:99999", "tcp://a:b", "tcp://[a"],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match=r"expected tcp://HOST:PORT of machine 0"):
        Address.parse(url)


def test_mistakes_in_the_launch_options_name_the_option():
    def start(**options):
        launch(print, [], device_type=lambda: "cpu", **options)

    with pytest.raises(InputError, match=r"--machine-rank: expected 0 to 1 with --num-machines 2, got 2"):
        start(num_machines=2, machine_rank=2, dist_url="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match=r"--machine-rank: expected 0 to 0 .* got -1"):
        start(machine_rank=-1)
    with pytest.raises(InputError, match="needs --dist-url"):
        start(num_machines=2)
    with pytest.raises(InputError, match="expected tcp://HOST:PORT"):
        start(num_machines=2, dist_url="udp://a:1")
    with pytest.raises(InputError, match=r"--join-timeout: expected seconds, above 0 .* got 0"):
        start(join_timeout=0)
    with pytest.raises(InputError, match=r"--join-timeout: .* got nan"):
        start(join_timeout=float("nan"))


@pytest.mark.slow
def test_processes_of_a_machine_that_does_not_come_are_named_once(tmp_path):
    port = str(free_port())
    status, stderr = Started("ends_well", tmp_path, "--machine", "0", port).end()
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(
        f"error: only 2 of 4 processes met at 127.0.0.1:{port} within 6 s (missing: 2, 3); is every"
    )


@pytest.mark.slow
def test_a_machine_without_machine_0_or_a_free_port_says_so_once(tmp_path):
    port = str(free_port())
    status, stderr = Started("ends_well", tmp_path, "--machine", "1", port).end()
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: no machine 0 at 127.0.0.1:{port} within 6 s: Connection refused; is machine 0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, stderr = Started("ends_well", tmp_path, "--machine", "0", str(port)).end()
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: cannot open port {port} on this machine for the job: Address already in use")


@pytest.mark.slow
def test_ctrl_c_while_another_machine_is_missing_is_one_word(tmp_path):
    job = Started("ends_well", tmp_path, "--machine", "0", str(free_port()))
    children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children")
    while len(children.read_text().split()) < 2:
        time.sleep(0.02)
    time.sleep(3)
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == (130, "interrupted\n")


@pytest.mark.slow
def test_two_machines_end_together(tmp_path):
    port = str(free_port())
    both = [Started("ends_well", tmp_path, "--machine", str(rank), port) for rank in range(2)]
    assert [machine.end() for machine in both] == [(0, ""), (0, "")]
    port = str(free_port())
    both = [Started("meets_for_ever", tmp_path, "--machine", str(rank), port) for rank in range(2)]
    both[0].wait_until_ready()
    while not (tmp_path / "ready3").exists():
        time.sleep(0.1)
    os.kill(int((tmp_path / "ready3").read_text()), signal.SIGKILL)
    killed = f"process 3 on {os.uname().nodename} ended: killed by SIGKILL"
    assert both[1].end() == (137, f"error: {killed}\n")
    status, stderr = both[0].end()
    assert status == 137
    assert re.fullmatch(rf"error: {killed}; process [01] ends too\n", stderr)


def test_batch_statistics_over_cpu_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    config = load_config(CONFIG, settings(tmp_path, 2, "train.sync_batch_norm=True"))
    with pytest.raises(InputError, match=r"train\.sync_batch_norm=True: expected GPUs, .* got cpu; set .*=False"):
        _distributed(build(config.model), config, torch.device("cpu"))


def test_a_port_that_is_taken_and_one_where_nobody_answers_are_named():
    store = open_store(Address("127.0.0.1", 0))
    with pytest.raises(InputError, match=rf"cannot open port {store.port} .*Address already in use"):
        open_store(Address("127.0.0.1", store.port))
    with pytest.raises(InputError, match=r"no machine 0 at 127\.0\.0\.1:1 within 0\.2 s: Connection refused"):
        connect(Address("127.0.0.1", 1), seconds=0.2)
    with pytest.raises(InputError, match=r"unknown host 'no\.such\.host\.invalid'"):
        connect(Address("no.such.host.invalid", 80), seconds=0.2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_store_at_a_loopback_address_is_for_this_machine_alone(host):
    store = open_store(Address(host, 0))
    connect(Address(host, store.port), seconds=10).set("key", "value")
    assert store.get("key") == b"value"
    listening = sockets_listening_at(store.port)
    assert len(listening) == 1
    assert listening <= {"127.0.0.1", "::1"}


def test_a_store_at_another_address_is_for_other_machines_too():
    store = open_store(Address(os.uname().nodename, 0))
    assert sockets_listening_at(store.port) <= {"::", "0.0.0.0"}
    assert sockets_listening_at(store.port)


def sockets_listening_at(port: int) -> set[str]:
    """Their addresses, from /proc/net (proc(5): hexadecimal, in words of the machine's byte order; 0A is LISTEN)."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            (address, at), state = line.split()[1].split(":"), line.split()[3]
            if int(at, 16) == port and state == "0A":
                words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(word.to_bytes(4, sys.byteorder) for word in words)))
    return found


def test_gloo_listens_on_the_interface_that_reaches_the_address(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    choose_gloo_interface(Address("127.0.0.1", 80))
    assert os.environ.pop("GLOO_SOCKET_IFNAME") == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "chosen")
    choose_gloo_interface(Address("127.0.0.1", 80))
    assert os.environ["GLOO_SOCKET_IFNAME"] == "chosen"
