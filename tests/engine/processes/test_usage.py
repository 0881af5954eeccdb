"""A mistake in the command line of a job: every process finds it, and one prints it."""

import os
import subprocess
import sys

import pytest
from tiny import ROOT

import inference
import main
from engine.processes.rendezvous import LOOPBACK, Address, open_store


@pytest.fixture
def job(monkeypatch):
    """The environment of a process that torchrun has started, with a store."""
    store = open_store(Address(LOOPBACK, 0))
    environment = {"RANK": "0", "MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "none"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield
    del store


@pytest.mark.parametrize(("program", "wrong"), [(main, "--config-file=x.py"), (inference, "--views=flip")])
def test_one_of_the_processes_prints_the_usage(job, capsys, program, wrong):
    for _ in range(3):
        with pytest.raises(SystemExit) as ended:
            program.parse_arguments([wrong, "--bogus"])
        assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("usage: ") == err.count("unrecognized arguments: --bogus") == 1
    for _ in range(3):
        with pytest.raises(SystemExit) as ended:
            program.parse_arguments(["--help"])
        assert ended.value.code == 0
    assert capsys.readouterr().out.count("usage: ") == 1


def test_alone_a_program_prints_each_mistake(capsys):
    for count in (1, 2):
        with pytest.raises(SystemExit):
            main.parse_arguments(["--bogus"])
        assert capsys.readouterr().err.count("usage: ") == 1, count


@pytest.mark.slow
def test_torchrun_prints_the_usage_once():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "main.py", "--bogus"]
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 1
    assert ended.stderr.count("usage: main.py") == 1, ended.stderr
