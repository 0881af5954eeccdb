"""metrics.json: a line of JSON for each logged iteration, appended during the run."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

FILE_NAME = "metrics.json"
VALIDATION = "validation/"  # prefix of the names of validation scores


class MetricsFile(EventWriter):
    """Append the latest value of each name since the last write. Values that are not finite are null.

    The file is opened for each write, so it may be replaced in between. A line truncated by a full disk or a power
    failure does not affect other lines.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._last_iteration = -1

    def write(self) -> None:
        scalars = new_scalars(get_event_storage(), self._last_iteration)
        if scalars:
            append_lines(self.path, [_line(iteration, values) for iteration, values in scalars.items()])
            self._last_iteration = max(scalars)


def new_scalars(storage: EventStorage, last_iteration: int) -> dict[int, dict[str, float]]:
    """Latest values logged after `last_iteration`, as {iteration: {name: value}} with ascending iterations."""
    by_iteration: dict[int, dict[str, float]] = defaultdict(dict)
    for name, (value, iteration) in storage.latest().items():
        if iteration > last_iteration:
            by_iteration[iteration][name] = value
    return dict(sorted(by_iteration.items()))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file, starting on a new line even if the last is truncated, and flush them to the disk."""
    with open(path, "a+b") as file:
        torn = file.seek(0, os.SEEK_END) > 0 and _last_byte(file) != b"\n"
        file.write((b"\n" if torn else b"") + "".join(f"{line}\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


def read_metrics(path: str | Path, max_lines: int = 5000) -> dict[int, dict[str, float]]:
    """Contents of a metrics.json for plotting, as {iteration: {name: value}} with ascending iterations.

    Lines that are not a JSON object with an iteration are ignored, and values that are not finite numbers are excluded.
    If iterations were repeated after a resume, the later lines are used.

    Args:
        max_lines: largest number of lines to read. From a longer file, evenly spaced lines and all lines with
            validation scores are read.
    """
    lines = Path(path).read_bytes().splitlines()
    stride = -(-len(lines) // max_lines)
    entries: dict[int, dict[str, float]] = {}
    last = -1
    for number, line in enumerate(lines):
        if (len(lines) - 1 - number) % stride and f'"{VALIDATION}'.encode() not in line:
            continue
        iteration, values = _parsed(line)
        if iteration is None:
            continue
        if iteration < last:
            entries = {earlier: entries[earlier] for earlier in entries if earlier < iteration}
        last = iteration
        entries.setdefault(iteration, {}).update(values)
    return entries


def _parsed(line: bytes) -> tuple[int | None, dict[str, float]]:
    try:
        entry = json.loads(line)
        iteration = int(entry.pop("iteration"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, {}
    numbers = {name: value for name, value in entry.items() if type(value) in (int, float) and math.isfinite(value)}
    return iteration, numbers


def _line(iteration: int, values: dict[str, float]) -> str:
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps({**finite, "iteration": iteration}, sort_keys=True)


def _last_byte(file) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
