"""Data-loading processes outlast a signal to stop until their parent has no more use for them."""

import os
import signal
import subprocess
import sys

import pytest
from tiny import ROOT

PROGRAM = """
import multiprocessing, os, sys, time
from data.training.workers import leave_stopping_to_parent

def load(ready):
    leave_stopping_to_parent()
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    loader = context.Process(target=load, args=(ready,))
    loader.start()
    assert ready.wait(60)
    print(loader.pid, flush=True)
    sys.stdin.readline()
    loader.join(0.3)
    print(loader.exitcode, flush=True)
    loader.terminate()
    loader.join(20)
    print(loader.exitcode, flush=True)
    loader.kill()
"""


def signalled(tmp_path, method: str, threads: str) -> list[str]:
    """How a loader that got Ctrl-C and SIGTERM from outside has ended, before and after its parent asks it to."""
    (tmp_path / "program.py").write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), method],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    loader = int(program.stdout.readline())
    os.kill(loader, signal.SIGINT)
    os.kill(loader, signal.SIGTERM)
    out, _ = program.communicate("\n", timeout=60)
    return out.split()


@pytest.mark.parametrize(("method", "threads"), [("fork", "2"), ("forkserver", "1"), ("spawn", "1")])
def test_a_loader_ends_when_its_parent_asks_and_for_nobody_else(tmp_path, method, threads):
    assert signalled(tmp_path, method, threads) == ["None", "0"]


def test_a_loader_with_other_threads_ends_at_once_rather_than_never(tmp_path):
    assert signalled(tmp_path, "spawn", "2") == [str(-signal.SIGTERM)] * 2
