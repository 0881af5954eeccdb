"""environment.json: versions, machine, command line and git revision of a run."""

import functools
import importlib.metadata
import json
import logging
import os
import platform
import re
import socket
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

from engine.monitoring.metrics_file import append_lines

logger = logging.getLogger("dinomatte.monitoring")

FILE_NAME = "environment.json"
GIT_SECONDS = 10


def record_environment(output_dir: str | Path, start_iteration: int) -> None:
    """Append a line of JSON about this start of a run to the folder's environment.json."""
    path = Path(output_dir) / FILE_NAME
    try:
        append_lines(path, [json.dumps(environment(start_iteration))])
    except OSError as error:
        logger.warning("%s cannot be written (%s); the run continues", path, error.strerror or error)


def environment(start_iteration: int = 0) -> dict[str, Any]:
    """Versions, machine and command line of this process; None for unknown values."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "start_iteration": start_iteration,
        "command": sys.argv,
        **git_state(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "packages": _packages(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "processes": comm.get_world_size(),
    }


@functools.cache
def _packages() -> dict[str, str]:
    """Versions of the installed packages. Parsing the metadata takes a third of a second, so a process does it once."""
    parsed = (each.metadata for each in importlib.metadata.distributions())
    return {metadata["Name"]: metadata["Version"] for metadata in parsed}


def git_state(folder: Path) -> dict[str, Any]:
    """Git revision of the checkout that tracks the files of `folder`, and whether tracked files differ from it.

    Both are None if git is missing or fails, or if another repository contains the folder without tracking its files.
    """
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    described = _git(folder, "describe", "--always", "--exclude=*", "--abbrev=64", "--dirty") if tracked else None
    if described is None:
        return {"git_revision": None, "git_dirty": None}
    return {"git_revision": described.removesuffix("-dirty"), "git_dirty": described.endswith("-dirty")}


def _git(folder: Path, *arguments: str) -> str | None:
    quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, env=quiet, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")  # of Linux
    found = re.search(r"model name\s*: (.*)", information.read_text()) if information.exists() else None
    return found[1] if found else platform.processor()
