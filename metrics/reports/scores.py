"""Reports of an evaluation: JSON, CSV, and a table for the terminal."""

import csv
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from metrics.folders import Evaluation
from metrics.image_scores import METRICS
from runtime.files import replacing
from runtime.text import printable

FORMAT_VERSION = 2
SEQUENCE_COLUMNS = {"dtssd": ("dtSSD (10^-2)", 1), "messddt": ("MESSDdt (10^-3)", 1e3)}
ROWS_AT_MOST = 20  # rows of images on the terminal; larger sets print the mean only


def as_record(evaluation: Evaluation) -> dict:
    """The evaluation as JSON-ready values, with None for values that are not finite. docs/metrics.md has the fields.

    Example:
        >>> from metrics.folders import Reference
        >>> scores, items = {"a": {"sad": 2.0, "pixels": 4}}, {"a": Reference(2, 2, "0" * 64, None)}
        >>> evaluation = Evaluation("whole", 1, metrics=("sad",), scores=scores, items=items)
        >>> as_record(evaluation)["mean"]
        {'sad': 2.0}
    """
    scores = evaluation.scores.values()
    defined = {f"n_{name}": sum(math.isfinite(score[name]) for score in scores) for name in evaluation.metrics}
    record = {
        "format_version": FORMAT_VERSION,
        "mean": nulled(evaluation.mean()),
        "n": len(scores),
        "expected": evaluation.expected,
        "region": evaluation.region,
        "units": {name: METRICS[name].unit for name in evaluation.metrics},
        "settings": {
            "allow_missing": evaluation.allow_missing,
            "quantise_trimaps": evaluation.quantise_trimaps,
            "shared_truths": evaluation.shared_truths,
        },
        "fingerprint": evaluation.fingerprint,
        "missing": evaluation.missing,
        "failed": evaluation.failed,
        "without_unknown": evaluation.without_unknown,
        "mean_where_defined": nulled(evaluation.mean(skip_undefined=True)) | defined,
        "images": {name: nulled(score) for name, score in evaluation.scores.items()},
        "set": {name: item._asdict() for name, item in evaluation.items.items()},
    }
    if evaluation.sequences is not None:
        clips = {clip: nulled(result) for clip, result in evaluation.sequences.items()}
        record["sequences"] = {
            "mean": nulled(evaluation.sequence_mean()),
            "clips": clips,
            "failed": evaluation.failed_clips,
        }
    return record


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write `as_record` as strictly valid JSON, atomically.

    Example:
        >>> write_json("scores.json", Evaluation("whole", 0))
        >>> with open("scores.json") as file:
        ...     json.load(file)["region"]
        'whole'
    """
    with replacing(path) as temporary:
        text = json.dumps(as_record(evaluation), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write one row for each scored image: name, metrics, pixels, the set's fingerprint. Undefined values are empty.

    Example:
        >>> write_csv("scores.csv", Evaluation("whole", 0, metrics=("sad",)))
        >>> with open("scores.csv") as file:
        ...     file.readline()
        'name,sad,pixels,fingerprint\\n'
    """
    fingerprint = evaluation.fingerprint
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["name", *evaluation.metrics, "pixels", "fingerprint"])
        for name, score in evaluation.scores.items():
            writer.writerow([name, *nulled(score).values(), fingerprint])


def format_table(evaluation: Evaluation) -> str:
    """Table of SAD, MSE x 10^3, Grad and Conn: the images of a small set, then the mean.

    Example:
        >>> from metrics.folders import Reference
        >>> scores, items = {"a": {"sad": 2.0, "pixels": 4}}, {"a": Reference(2, 2, "0" * 64, None)}
        >>> evaluation = Evaluation("whole", 1, metrics=("sad",), scores=scores, items=items)
        >>> print(format_table(evaluation).splitlines()[-1])
        mean        2.0000
    """
    rows = dict(evaluation.scores) if len(evaluation.scores) <= ROWS_AT_MOST else {}
    rows = {printable(name): score for name, score in rows.items()}
    if not evaluation.failed:
        rows["mean"] = evaluation.mean()
        if not all(map(math.isfinite, rows["mean"].values())):
            rows["mean where defined"] = evaluation.mean(skip_undefined=True)
    width = max([len("image"), *map(len, rows)])
    lines = [
        f"region: {evaluation.region}, {len(evaluation.scores)} of {evaluation.expected} images scored, "
        f"fingerprint {evaluation.fingerprint[:12]}",
        "image".ljust(width) + "".join(METRICS[name].title.rjust(13) for name in evaluation.metrics),
    ]
    lines += [name.ljust(width) + _cells(score, evaluation.metrics) for name, score in rows.items()]
    if evaluation.sequences is not None:
        lines += ["", *_sequence_lines(evaluation)]
    if evaluation.shared_truths:
        lines.append("image NAME_k is scored against truth NAME")
    if evaluation.failed:
        lines.append(f"no mean: {len(evaluation.failed)} of {evaluation.expected} images could not be scored")
    return "\n".join(lines)


def format_value(metric: str, value: float) -> str:
    """A value as printed under the title of its metric: scaled, with four decimals."""
    return format_number(value, METRICS[metric].scale)


def format_number(value: float, scale: float) -> str:
    """A scaled value with four decimals, or "undefined" or "infinite"."""
    if math.isnan(value):
        return "undefined"
    return "infinite" if math.isinf(value) else f"{value * scale:.4f}"


def _sequence_lines(evaluation: Evaluation) -> list[str]:
    rows = dict(evaluation.sequences) if len(evaluation.sequences) <= ROWS_AT_MOST else {}
    rows = {printable(name): result for name, result in rows.items()}
    if not (evaluation.failed or evaluation.failed_clips):
        rows["mean over clips"] = evaluation.sequence_mean()
    width = max([len("clip"), *map(len, rows)])
    return [
        "clip".ljust(width) + "".join(title.rjust(17) for title, _ in SEQUENCE_COLUMNS.values()),
        *(
            name.ljust(width)
            + "".join(format_number(row[metric], scale).rjust(17) for metric, (_, scale) in SEQUENCE_COLUMNS.items())
            for name, row in rows.items()
        ),
    ]


def _cells(score: dict[str, float], metrics: tuple[str, ...]) -> str:
    return "".join(format_value(name, score[name]).rjust(13) for name in metrics)


def nulled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace numbers that are not finite, which JSON does not have, by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
