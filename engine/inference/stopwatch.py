"""Seconds of the parts of repeated work, the device's work included."""

import contextlib
import statistics
import time
from collections.abc import Iterator

import torch

from runtime.device import synchronise


class Stopwatch:
    """Sums the time of named parts, lap by lap. One thread takes the time of all parts.

    Args:
        device: waited for before the clock is read; None for parts that use none.

    Attributes:
        laps: seconds by part, of each lap that has ended.

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
        """Time what is done in the block; a block that fails is not counted."""
        start = self._now()
        yield
        self._lap[name] = self._lap.get(name, 0.0) + self._now() - start

    def lap(self) -> None:
        """End a lap."""
        self.laps.append(self._lap)
        self._lap = {}

    def summary(self, first: int = 0, last: int = 0) -> dict[str, tuple[float, float]]:
        """Median and mean seconds of each part, 0 where a lap did not have it.

        Args:
            first, last: so many laps at either end are left out.
        """
        laps = self.laps[first : len(self.laps) - last]
        names = dict.fromkeys(name for lap in laps for name in lap)
        rows = {name: [lap.get(name, 0.0) for lap in laps] for name in names}
        return {name: (statistics.median(seconds), statistics.fmean(seconds)) for name, seconds in rows.items()}

    def _now(self) -> float:
        if self.device is not None:
            synchronise(self.device)
        return time.perf_counter()
