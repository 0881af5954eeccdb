"""Distribution of one metric over the images of a set: quantiles, and a histogram with round bins."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Distribution(NamedTuple):
    """Summary of one metric over images, in the unit of the given values.

    Attributes:
        n: number of finite values, for which the quantiles and the histogram are computed; NaN if there are none.
        undefined, infinite: numbers of NaN and of infinite values.
        minimum, lower_quartile, median, upper_quartile, maximum: linearly interpolated quantiles.
        start, step: bin k of the histogram is [start + k step, start + (k + 1) step); the last bin is closed.
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
    """Summarise values. Values that are not finite are excluded from quantiles and histogram."""
    values = np.array(list(values), np.float64)
    finite = values[np.isfinite(values)]
    quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist() if finite.size else [math.nan] * 5
    infinite = int(np.isinf(values).sum())
    return Distribution(finite.size, values.size - finite.size - infinite, infinite, *quantiles, *_histogram(finite))


def round_step(at_most: float) -> float:
    """Largest number of the form 1, 2 or 5 times a power of ten that is not above a positive number."""
    power = 10.0 ** math.floor(math.log10(at_most))
    return power * next(digit for digit in (5, 2, 1, 0.5) if power * digit <= at_most * (1 + 1e-12))


def _histogram(finite: np.ndarray) -> tuple[float, float, list[int]]:
    """Start, step and counts of bins whose edges are multiples of a round step."""
    if finite.size == 0:
        return math.nan, math.nan, []
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # edges between values that differ by rounding would coincide
        high = low
    at_least = math.ceil(2 * np.cbrt(finite.size))  # number of bins, by Rice's rule
    step = round_step((high - low) / at_least or abs(high) or 1)
    start = math.floor(low / step + 1e-9) * step
    bins = max(1, math.ceil((high - start) / step - 1e-9))
    index = np.clip(np.floor((finite - start) / step + 1e-9).astype(int), 0, bins - 1)
    return start, step, np.bincount(index, minlength=bins).tolist()
