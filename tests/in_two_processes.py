"""A function of a test module in two processes of a job.

python tests/in_two_processes.py MODULE FUNCTION ARGUMENT ...
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_two_processes(function: Callable[..., None], *arguments: str) -> None:
    """Call it in both, with strings; raises CalledProcessError where one fails."""
    script = [str(Path(__file__).resolve()), function.__module__, function.__name__, *arguments]
    folders = os.pathsep.join([str(ROOT), str(Path(sys.modules[function.__module__].__file__).parent)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
    subprocess.run([sys.executable, *script], cwd=ROOT, env=environment, check=True)


def _main() -> None:
    from engine.processes.launch import launch

    module, function, *arguments = sys.argv[1:]
    work = getattr(importlib.import_module(module), function)
    launch(lambda: work(*arguments), sys.argv, device_type=lambda: "cpu", num_processes=2)


if __name__ == "__main__":
    _main()
