"""Time of the parts of repeated work, including the work of the device."""

import contextlib
import statistics
import time
from collections.abc import Iterator

import torch

from runtime.device import synchronise


class Stopwatch:
    """Measures the time of named parts, lap by lap. All parts must run in one thread.

    Args:
        device: device that is synchronised before the clock is read; None for parts that do not use one.

    Attributes:
        laps: seconds by part, for each lap that has ended.

    Example:
        >>> watch = Stopwatch()
        >>> with watch.part("adding"):
        ...     total = sum(range(9))
        >>> watch.lap()
        >>> list(watch.laps[0])
        ['adding']
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.laps: list[dict[str, float]] = []
        self._lap: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure the time of the block. A block that raises an error is not counted."""
        start = self._now()
        yield
        self._lap[name] = self._lap.get(name, 0.0) + self._now() - start

    def lap(self) -> None:
        """End a lap."""
        self.laps.append(self._lap)
        self._lap = {}

    def summary(self, first: int = 0, last: int = 0) -> dict[str, tuple[float, float]]:
        """Median and mean seconds of each part. A lap without the part counts as 0.

        Args:
            first, last: number of laps at the start and at the end that are omitted.
        """
        laps = self.laps[first : len(self.laps) - last]
        names = dict.fromkeys(name for lap in laps for name in lap)
        rows = {name: [lap.get(name, 0.0) for lap in laps] for name in names}
        return {name: (statistics.median(seconds), statistics.fmean(seconds)) for name, seconds in rows.items()}

    def _now(self) -> float:
        if self.device is not None:
            synchronise(self.device)
        return time.perf_counter()
