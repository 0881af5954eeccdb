"""Report of a comparison of methods, as text for the terminal and as JSON."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from metrics.comparison import Change, Comparison, PairedDifference
from metrics.image_scores import METRICS, mean_scores
from metrics.reports.saved import SavedReport
from metrics.reports.scores import format_value, nulled
from runtime.files import replacing
from runtime.text import printable

FORMAT_VERSION = 1


@dataclass(frozen=True)
class MethodComparison:
    """Several methods on one set, compared with one of them.

    Attributes:
        methods: name -> report, all of the same set and region.
        baseline: name of the method that the others are compared with.
        against: name -> comparison, for the other methods.
        resample: unit of the bootstrap, "images" or "truths".
        resamples, confidence, seed: settings of the bootstrap.
    """

    methods: dict[str, SavedReport]
    baseline: str
    against: dict[str, Comparison]
    resample: str
    resamples: int
    confidence: float
    seed: int

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Method -> metric -> mean over the whole set, NaN if the metric is undefined for an image."""
        return {
            name: mean_scores(report.scores.values(), metrics=report.metrics) for name, report in self.methods.items()
        }


def format_comparison(result: MethodComparison) -> str:
    """Means, paired differences and the images with the largest changes, in the units of published tables."""
    report = result.methods[result.baseline]
    head = f"{len(report.scores)} images, region {report.region}, set {report.fingerprint[:12]}"
    parts = [f"{head}; baseline: {printable(result.baseline)}", _means(result.means)]
    for name, comparison in result.against.items():
        against = f"{printable(name)} minus {printable(result.baseline)}"
        how = f"{result.confidence * 100:g} % interval from {result.resamples} resamples of the {result.resample}"
        parts.append(f"{against}: mean difference, {how} (seed {result.seed})\n{_differences(comparison.differences)}")
        heads = {"most improved": comparison.improved, "most worsened": comparison.worsened}
        title = METRICS[comparison.by].title
        parts += [
            f"{printable(name)}: {what} by {title}\n{_changes(changes, comparison.by, result.baseline, name)}"
            for what, changes in heads.items()
            if changes
        ]
    return "\n\n".join(parts)


def comparison_record(result: MethodComparison) -> dict:
    """The comparison as JSON-ready values in the units of `score_image`, with None for undefined values.

    docs/comparing.md has the fields.
    """
    report = result.methods[result.baseline]
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": report.fingerprint,
        "region": report.region,
        "n": len(report.scores),
        "expected": report.expected,
        "units": {metric: METRICS[metric].unit for metric in METRICS if metric in report.metrics},
        "resample": result.resample,
        "resamples": result.resamples,
        "confidence": result.confidence,
        "seed": result.seed,
        "baseline": result.baseline,
        "methods": {
            name: {"file": str(result.methods[name].file), "mean": nulled(means)}
            for name, means in result.means.items()
        },
        "against": {
            name: {
                "metrics": {entry.metric: nulled(asdict(entry)) for entry in comparison.differences},
                "by": comparison.by,
                "improved": [change._asdict() for change in comparison.improved],
                "worsened": [change._asdict() for change in comparison.worsened],
            }
            for name, comparison in result.against.items()
        },
    }


def write_comparison_json(path: str | os.PathLike, result: MethodComparison) -> None:
    """Write `comparison_record` as strictly valid JSON, atomically."""
    with replacing(path) as temporary:
        text = json.dumps(comparison_record(result), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _means(means: Mapping[str, Mapping[str, float]]) -> str:
    metrics = [metric for metric in METRICS if any(metric in values for values in means.values())]
    rows = [["method", *(METRICS[metric].title for metric in metrics)]]
    for name, values in means.items():
        rows.append(
            [printable(name), *(format_value(metric, values[metric]) if metric in values else "" for metric in metrics)]
        )
    return _aligned(rows)


def _differences(differences: Sequence[PairedDifference]) -> str:
    rows = [["metric", "difference", "interval", "relative", "better on", "worse on", "equal on", "sign test"]]
    for entry in differences:
        interval = f"[{_signed(entry.metric, entry.low)}, {_signed(entry.metric, entry.high)}]"
        rows.append(
            [
                METRICS[entry.metric].title,
                _signed(entry.metric, entry.difference),
                "none" if math.isnan(entry.low) else interval,
                "undefined" if math.isnan(entry.relative) else f"{entry.relative:+.2f} %",
                str(entry.wins),
                str(entry.losses),
                str(entry.ties),
                f"p = {entry.p_value:.2g}",
            ]
        )
    return _aligned(rows)


def _changes(changes: Sequence[Change], metric: str, baseline: str, name: str) -> str:
    rows = [["image", printable(baseline), printable(name), "difference"]]
    rows += [
        [
            printable(change.name),
            format_value(metric, change.baseline),
            format_value(metric, change.value),
            _signed(metric, change.value - change.baseline),
        ]
        for change in changes
    ]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lines whose first column is left-aligned and whose other columns are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _signed(metric: str, value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value * METRICS[metric].scale:+.4f}"
