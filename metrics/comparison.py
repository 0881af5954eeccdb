"""Comparison of two methods on the same images: paired differences, their confidence intervals, and the largest
changes.

All statistics are computed from the differences image by image. The variation between images is much larger than that
between two methods on one image, so the difference of two means says little without the pairing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metrics.image_scores import METRICS

DRAWS_AT_ONCE = 2**20  # indices in memory while resampling: 24 MiB with the chosen values

Scores = Mapping[str, Mapping[str, float]]  # image -> metric -> value, NaN where undefined


@dataclass(frozen=True)
class PairedDifference:
    """One metric of a method against the baseline, over the images where both are defined.

    Values are in the units of `score_image`, not in those of printed tables.

    Attributes:
        metric: name in `METRICS`.
        images: number of compared images.
        left_out: names of images for which the metric is undefined in either.
        baseline_mean, mean: means over the compared images.
        difference: `mean - baseline_mean`.
        low, high: confidence interval of the difference; NaN with fewer than two images or groups.
        relative: difference in percent of the baseline's mean; NaN where that is 0.
        wins, losses, ties: images on which the method is better, worse, equal.
        p_value: p-value of the two-sided sign test.
    """

    metric: str
    images: int
    left_out: list[str]
    baseline_mean: float
    mean: float
    difference: float
    low: float
    high: float
    relative: float
    wins: int
    losses: int
    ties: int
    p_value: float


class Change(NamedTuple):
    """Values of the ranking metric for one image."""

    name: str
    baseline: float
    value: float


@dataclass(frozen=True)
class Comparison:
    """A method compared with the baseline.

    Attributes:
        differences: one difference for each metric that both have.
        by: metric that ranks the images below.
        improved, worsened: images with the largest changes, the largest first.
    """

    differences: list[PairedDifference]
    by: str
    improved: list[Change]
    worsened: list[Change]


def compare(
    baseline: Scores,
    scores: Scores,
    metrics: Sequence[str],
    *,
    by: str = "sad",
    top: int = 10,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare a method with the baseline on the same images.

    Args:
        baseline, scores: scores of the same images.
        metrics: names in `METRICS` that all images of both have.
        by: metric of `metrics` that ranks the images with the largest changes.
        top: largest number of improved and of worsened images.
        resamples, confidence: settings of `bootstrap_interval`.
        seed: seed of the resampling. Each metric has its own generator from this seed, so its interval does not depend
            on the other metrics or methods.
        groups: image -> label; images with the same label are drawn together. None to draw each image separately.

    Example:
        >>> baseline, scores = {"a": {"sad": 2.0}, "b": {"sad": 4.0}}, {"a": {"sad": 1.0}, "b": {"sad": 3.0}}
        >>> sad = compare(baseline, scores, ["sad"]).differences[0]
        >>> sad.difference, sad.wins
        (-1.0, 2)
    """
    differences = []
    for metric in metrics:
        names, before, after = paired_values(baseline, scores, metric)
        defined = set(names)
        left_out = [name for name in baseline if name not in defined]
        labels = np.array([groups[name] for name in names]) if groups else np.arange(len(names))
        interval = bootstrap_interval(after - before, labels, resamples, confidence, np.random.default_rng(seed))
        differences.append(paired_difference(metric, before, after, left_out, interval))
    return Comparison(differences, by, *most_changed(by, *paired_values(baseline, scores, by), top))


def paired_values(baseline: Scores, scores: Scores, metric: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the n images for which both are finite, and their values, (n,) float64 each."""
    names = list(baseline)
    before = np.array([baseline[name][metric] for name in names], np.float64)
    after = np.array([scores[name][metric] for name in names], np.float64)
    defined = np.isfinite(before) & np.isfinite(after)
    return [names[i] for i in np.flatnonzero(defined)], before[defined], after[defined]


def paired_difference(
    metric: str, before: np.ndarray, after: np.ndarray, left_out: list[str], interval: tuple[float, float]
) -> PairedDifference:
    """Compare (n,) values of a method, `after`, with those of the baseline on the same images, `before`."""
    if len(before) == 0:
        undefined = (math.nan,) * 6
        return PairedDifference(metric, 0, left_out, *undefined, wins=0, losses=0, ties=0, p_value=1.0)
    differences = after - before
    gains = differences if METRICS[metric].higher_is_better else -differences
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    baseline_mean, mean = float(before.mean()), float(after.mean())
    difference = float(differences.mean())
    return PairedDifference(
        metric=metric,
        images=len(before),
        left_out=left_out,
        baseline_mean=baseline_mean,
        mean=mean,
        difference=difference,
        low=interval[0],
        high=interval[1],
        relative=100 * difference / abs(baseline_mean) if baseline_mean else math.nan,
        wins=wins,
        losses=losses,
        ties=len(before) - wins - losses,
        p_value=sign_test(wins, losses),
    )


def bootstrap_interval(
    differences: np.ndarray, groups: np.ndarray, resamples: int, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979.

    The m groups are drawn with replacement, m groups each time, with all their images. The interval contains the middle
    `confidence` of the means over the drawn images, with linear interpolation as in `numpy.quantile`. With one image in
    each group it is the ordinary bootstrap. Otherwise it is the cluster bootstrap for dependent images (Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Args:
        differences: (n,) values, one per image.
        groups: (n,) labels; images of equal label belong together.
        resamples: number of draws.
        confidence: confidence level in (0, 1).
        generator: source of the random numbers, used row by row; the interval is a function of its state.

    Returns:
        (low, high) in the units of the values; NaN with fewer than two groups, which have no spread.
    """
    numbers = {}  # label -> number, in the order of the images
    members = np.array([numbers.setdefault(label, len(numbers)) for label in groups.tolist()], np.intp)
    m = len(numbers)
    if m < 2:
        return math.nan, math.nan
    sums, sizes = np.bincount(members, differences), np.bincount(members)
    means = np.empty(resamples)
    rows = max(1, DRAWS_AT_ONCE // m)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = generator.integers(m, size=(stop - start, m))
        means[start:stop] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of the exact sign test: the probability that a fair coin is at least as uneven.

    Ties are excluded, as is usual (Conover, "Practical Nonparametric Statistics", section 3.4).

    Returns:
        2 P(X <= min(wins, losses)) for X binomial of `wins + losses` tosses, at most 1; 1 without any.
    """
    from scipy.stats import binomtest  # imported here because it takes most of a second, and scoring does not need it

    tosses = wins + losses
    return float(binomtest(wins, tosses).pvalue) if tosses else 1.0


def most_changed(
    metric: str, names: Sequence[str], before: np.ndarray, after: np.ndarray, top: int
) -> tuple[list[Change], list[Change]]:
    """Images that improved most and those that worsened most, at most `top` each, without unchanged ones.

    Args:
        names: names of n images.
        before, after: (n,) values of the baseline and of the method.
    """
    gains = (after - before) * (1 if METRICS[metric].higher_is_better else -1)

    def first(order: np.ndarray) -> list[Change]:
        return [Change(names[i], float(before[i]), float(after[i])) for i in order[:top]]

    descending = np.argsort(-gains, kind="stable")  # equal changes stay in the order of names
    ascending = np.argsort(gains, kind="stable")
    return first(descending[gains[descending] > 0]), first(ascending[gains[ascending] < 0])
