"""Run a section of the GPU check that fails in some way, and print its rows as JSON.

python tests/tools/failing_sections.py SECTION SECONDS
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.gpu_checks.processes import Launcher
from tools.gpu_checks.rows import Row, Skipped
from tools.gpu_checks.settings import Settings


def fail():
    raise ValueError("out of\nsomething")


def skip():
    raise Skipped("no such library")


SECTIONS = {
    "a case fails": [lambda: Row("fine", True), fail, lambda: Row("fine too")],
    "a case is skipped": [skip, lambda: Row("fine", True)],
    "the process dies": [lambda: Row("fine", True), lambda: os._exit(7)],
    "it takes too long": [lambda: Row("fine", True), lambda: time.sleep(600)],
}


class Section:
    """Stands for the module of a section."""

    def __init__(self, checks):
        self.checks = checks

    def cases(self, settings):
        for number, check in enumerate(self.checks):
            yield f"case {number}", check


if __name__ == "__main__":
    section, seconds = sys.argv[1:]
    sys.modules["tools.gpu_checks.alpha"] = Section(SECTIONS[section])
    rows = Launcher(Settings("cpu", tiny=True), "fork", "here").run("alpha", float(seconds))
    print(json.dumps([row._asdict() for row in rows]))
