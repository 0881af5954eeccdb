"""Reports of an evaluation: JSON, CSV, and a table for the terminal."""

import csv
import json
import math
import os

from data.files import replacing
from metrics.dataset import Evaluation
from metrics.image_scores import METRICS

FORMAT_VERSION = 1
UNITS = {"sad": "thousands", "mse": "mean", "grad": "thousands", "conn": "thousands"}
COLUMNS = {
    "sad": ("SAD (10^3)", 1),
    "mse": ("MSE (10^-3)", 1e3),
    "grad": ("Grad (10^3)", 1),
    "conn": ("Conn (10^3)", 1),
}
ROWS_AT_MOST = 20  # per-image rows on the terminal; larger sets print the mean only


def as_record(evaluation: Evaluation) -> dict:
    """Return the evaluation as JSON-ready values, None for what is undefined. docs/metrics.md has the fields."""
    defined = [score for score in evaluation.scores.values() if not math.isnan(score["mse"])]
    return {
        "format_version": FORMAT_VERSION,
        "mean": _nulled(evaluation.mean()),
        "n": len(evaluation.scores),
        "expected": evaluation.expected,
        "region": evaluation.region,
        "units": UNITS,
        "settings": {
            "allow_missing": evaluation.allow_missing,
            "quantise_trimaps": evaluation.quantise_trimaps,
        },
        "missing": evaluation.missing,
        "failed": evaluation.failed,
        "without_unknown": evaluation.without_unknown,
        "mean_where_defined": _nulled(evaluation.mean(skip_undefined=True)) | {"n_mse": len(defined)},
        "images": {name: _nulled(score) for name, score in evaluation.scores.items()},
    }


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write `as_record` as strictly valid JSON, whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(as_record(evaluation), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write one row per scored image: name, the metrics, pixels. An undefined value is an empty field."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["name", *METRICS, "pixels"])
        for name, score in evaluation.scores.items():
            writer.writerow([name, *_nulled(score).values()])


def format_table(evaluation: Evaluation) -> str:
    """Return the table papers print: SAD, MSE x 10^3, Grad, Conn; the images of a small set, then the mean."""
    rows = dict(evaluation.scores) if len(evaluation.scores) <= ROWS_AT_MOST else {}
    rows = {_printable(name): score for name, score in rows.items()}
    if not evaluation.failed:
        rows["mean"] = evaluation.mean()
        if math.isnan(rows["mean"]["mse"]):
            rows["mean where defined"] = evaluation.mean(skip_undefined=True)
    width = max([len("image"), *map(len, rows)])
    lines = [
        f"region: {evaluation.region}, {len(evaluation.scores)} of {evaluation.expected} images scored",
        "image".ljust(width) + "".join(title.rjust(13) for title, _ in COLUMNS.values()),
    ]
    lines += [name.ljust(width) + _cells(score) for name, score in rows.items()]
    if evaluation.failed:
        lines.append(f"no mean: {len(evaluation.failed)} of {evaluation.expected} images could not be scored")
    return "\n".join(lines)


def _cells(score: dict[str, float]) -> str:
    values = (score[name] * factor for name, (_, factor) in COLUMNS.items())
    return "".join(("undefined" if math.isnan(value) else f"{value:.4f}").rjust(13) for value in values)


def _nulled(score: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in score.items()}


def _printable(name: str) -> str:
    """Spell out what a terminal cannot show: bytes that are not text, line breaks."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
