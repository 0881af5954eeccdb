"""Sections in separate processes, so that a crash, a CUDA error or a hang of one does not affect the others."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from tools.gpu_checks.rows import Row, Skipped
from tools.gpu_checks.settings import Settings

DEVICE_SECONDS = 60  # time limit for finding the GPU
END = None  # the last message of a process


class Launcher(NamedTuple):
    """Starter of sections.

    Attributes:
        settings: settings of the sections.
        method: "fork", which imports libraries once, or "spawn".
        machine: names of the device and its drivers.
    """

    settings: Settings
    method: str
    machine: str

    @classmethod
    def on(cls, settings: Settings) -> "Launcher | None":
        """A launcher for the device of the settings; None if a GPU is needed and there is none.

        Separate processes inspect the GPU, because forked processes cannot use CUDA if it was initialised before, which
        a library might do on import.
        """
        machine = _machine("fork", settings) or _machine("spawn", settings)
        if machine is None:
            return None
        with contextlib.suppress(ImportError):  # a section that needs a missing package reports it
            importlib.import_module("tools.gpu_checks.inputs")
        return cls(settings, "fork" if _machine("fork", settings) else "spawn", machine)

    def run(self, name: str, seconds: float) -> Iterator[Row]:
        """Yield a section's rows. If it fails, is skipped, or takes longer than `seconds`, the last row says so."""
        if seconds <= 0:
            yield Row("not run: no time left", passed=False, section=name)
            return
        for row in _answers(self.method, seconds, _run_section, self.settings, name):
            yield row._replace(section=name)


def _machine(method: str, settings: Settings) -> str | None:
    answer = next(_answers(method, DEVICE_SECONDS, _describe, settings), None)
    return answer if isinstance(answer, str) else None


def _answers(method: str, seconds: float, function: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """Messages of `function(connection, *arguments)` in a separate process within `seconds`, or a failed row."""
    context = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_lead_group, args=(function, sending, *arguments))
    process.start()
    sending.close()
    deadline = time.monotonic() + seconds
    try:
        while True:
            ready = wait([receiving, process.sentinel], max(0.0, deadline - time.monotonic()))
            if receiving in ready:
                answer = receiving.recv()
                if answer is END:
                    return
                yield answer
            elif ready:
                raise EOFError
            else:
                yield Row(f"not finished after {seconds:.0f} s", passed=False)
                return
    except EOFError:
        process.join()
        yield Row(f"the process ended with status {process.exitcode}", passed=False)
    finally:
        _end(process)


def _end(process: multiprocessing.Process) -> None:
    """End the process and its children, such as loaders and compilers."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _lead_group(function: Callable[..., None], connection: Connection, *arguments: Any) -> None:
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # stdout is for the table only
    function(connection, *arguments)
    connection.send(END)


def _describe(connection: Connection, settings: Settings) -> None:
    import torch

    versions = f"torch {torch.__version__}, Python {sys.version.split()[0]}, {os.cpu_count()} CPU cores"
    if settings.device == "cpu":
        connection.send(f"CPU, tiny sizes, not meaningful for speed; {versions}")
    elif torch.cuda.is_available():
        torch.zeros(1, device="cuda").item()
        gpu = torch.cuda.get_device_properties(0)
        connection.send(
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {gpu.multi_processor_count} multiprocessors; "
            f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {versions}"
        )


def _run_section(connection: Connection, settings: Settings, name: str) -> None:
    import torch

    if settings.tiny:
        torch.set_num_threads(1)
    try:
        module = importlib.import_module(f"tools.gpu_checks.{name.replace('-', '_')}")
        for case, check in module.cases(settings):
            connection.send(_row_of(check)._replace(case=case))
    except Exception as error:
        connection.send(_failure(error))


def _row_of(check: Callable[[], Row]) -> Row:
    try:
        return check()
    except Skipped as reason:
        return Row(f"skipped: {reason}")
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Row:
    traceback.print_exception(error)
    return Row(f"{type(error).__name__}: {str(error)[:300]}", passed=False)
