"""How one metric is spread over the images of a set: its quantiles and a histogram with round bins."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Distribution(NamedTuple):
    """Summary of one metric over images, in the unit of the values given.

    Attributes:
        n: finite values; the quantiles and the histogram are over these, and NaN where there is none.
        undefined, infinite: how many values are NaN, how many infinite.
        minimum, lower_quartile, median, upper_quartile, maximum: linearly interpolated quantiles.
        start, step: the k-th bin of the histogram is [start + k step, start + (k + 1) step), the last one closed.
        counts: values in each bin.
    """

    n: int
    undefined: int
    infinite: int
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float
    start: float
    step: float
    counts: list[int]


def distribution(values: Iterable[float]) -> Distribution:
    """Summarise values, leaving out of quantiles and histogram what is not finite."""
    values = np.array(list(values), np.float64)
    finite = values[np.isfinite(values)]
    quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist() if finite.size else [math.nan] * 5
    infinite = int(np.isinf(values).sum())
    return Distribution(finite.size, values.size - finite.size - infinite, infinite, *quantiles, *_histogram(finite))


def round_step(at_most: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above a positive number."""
    power = 10.0 ** math.floor(math.log10(at_most))
    return power * next(digit for digit in (5, 2, 1, 0.5) if power * digit <= at_most * (1 + 1e-12))


def _histogram(finite: np.ndarray) -> tuple[float, float, list[int]]:
    """Return start, step and counts of bins whose edges are multiples of a round step."""
    if finite.size == 0:
        return math.nan, math.nan, []
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # equal but for rounding: edges between them would coincide
        high = low
    at_least = math.ceil(2 * np.cbrt(finite.size))  # bins, by Rice's rule
    step = round_step((high - low) / at_least or abs(high) or 1)
    start = math.floor(low / step + 1e-9) * step
    bins = max(1, math.ceil((high - start) / step - 1e-9))
    index = np.clip(np.floor((finite - start) / step + 1e-9).astype(int), 0, bins - 1)
    return start, step, np.bincount(index, minlength=bins).tolist()
