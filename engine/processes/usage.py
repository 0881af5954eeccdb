"""Command lines of programs that torchrun starts in several processes."""

import argparse
import os
from typing import IO, NoReturn


class JobParser(argparse.ArgumentParser):
    """Parser whose help and errors are printed by one process of a machine.

    Every process of a job parses the same command line, so every one finds the same mistake.
    """

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.format_usage()}{self.prog}: error: {message}\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        super().exit(status, message if message and _is_first(message) else None)

    def print_help(self, file: IO[str] | None = None) -> None:
        if _is_first("help"):
            super().print_help(file)


def _is_first(message: str) -> bool:
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # not started by torchrun, so there may be no store to ask
        return os.environ.get("LOCAL_RANK", "0") == "0"
    from engine.processes.rendezvous import first_here  # imports torch, which --help can do without

    return first_here(message)
