"""main.py in processes of their own that are forked from one that has imported everything: each starts at once.

    python tests/forked_runs.py

reads a line of JSON for each run, {"arguments": [...], "log": path}, answers with its process id, and when it has
ended with its status, negative for the signal that ended it. The run is the leader of its process group.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class ForkedRuns:
    """The parent's side."""

    def __init__(self, server: subprocess.Popen) -> None:
        self._server = server

    def start(self, arguments: list[str], log: Path) -> int:
        """Start main.py with `arguments`, its output in `log`; returns its process id."""
        print(json.dumps({"arguments": arguments, "log": str(log)}), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())

    def wait(self) -> int:
        """The status of the run that was started last."""
        return int(self._server.stdout.readline())


@contextmanager
def forked_runs() -> Iterator[ForkedRuns]:
    command = [sys.executable, str(Path(__file__))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield ForkedRuns(server)
        server.stdin.close()


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until `condition()` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def _serve() -> None:
    import matplotlib.figure  # noqa: F401  (like the next, for the forked processes)

    import main
    from engine.training import run  # noqa: F401
    from runtime import command_line as cli

    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            _run(main, cli, request)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def _run(main, cli, request: dict) -> None:
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    cli.run(lambda: main.main(request["arguments"]))


if __name__ == "__main__":
    _serve()
