"""HTML report of an evaluation on one page: distributions, pictures of the worst images, and a table of all images.

The page is self-contained and its policy does not allow it to load anything, so it can be opened from a file without a
network.
"""

import base64
import functools
import hashlib
import math
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data.images.files import images_by_stem
from data.images.pairing import fitted
from metrics.folders import Evaluation
from metrics.image_scores import METRICS
from metrics.reports.distribution import Distribution, distribution
from metrics.reports.histogram_svg import histogram_svg
from metrics.reports.pictures import error_map, picture_case, png_uri, signed_ramp
from metrics.reports.scores import SEQUENCE_COLUMNS, format_number, format_value
from runtime.files import replacing
from runtime.text import natural_order, printable, superscripts

TEMPLATE_FILE = Path(__file__).with_suffix(".html")
LAST_COLUMNS = [("Pixels scored", "descending"), ("Size", "descending")]


def write_html(
    path: str | os.PathLike, evaluation: Evaluation, image_dir: str | os.PathLike | None = None, worst: int = 12
) -> None:
    """Write the report atomically.

    The files of the worst images are read again, one image at a time. If a file cannot be read any more, a message
    replaces its picture.

    Args:
        path: path of the page, in UTF-8.
        evaluation: result of `score_folders`.
        image_dir: folder of photographs with its sub-folders, named like the evaluation's images. Without it the rows
            of pictures begin with the trimap.
        worst: number of worst images by each metric that are shown.

    Raises:
        InputError: `image_dir` is not a folder or has a name twice; `path` cannot be written.

    Example:
        >>> write_html("scores.html", Evaluation("whole", 0))
        >>> Path("scores.html").read_text(encoding="utf-8")[:15]
        '<!DOCTYPE html>'
    """
    names = sorted(evaluation.scores, key=natural_order)
    ranks = worst_ranks(evaluation, names, worst)
    photographs = None if image_dir is None else _photographs(image_dir, names)
    source = TEMPLATE_FILE.read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"printable": printable, "exact": repr, "title": _title}
    environment.globals |= {"count": _count, "format_value": format_value, "infinity": math.inf}
    page = environment.from_string(source).render(
        policy=_content_security_policy(source),
        headline=f"{len(names)} of {_count(evaluation.expected, 'image')} scored, {evaluation.region} region",
        evaluation=evaluation,
        cards=[_card(evaluation, metric) for metric in evaluation.metrics],
        first=evaluation.metrics[0],
        ranks=ranks,
        legend=_legend(),
        cases=_cases(evaluation, ranks, photographs),
        clips=_clips(evaluation),
        columns=[("Image", "ascending"), *map(_column, evaluation.metrics), *LAST_COLUMNS],
        names=names,
        numbers={name: number for number, name in enumerate(ranks)},
        largest={metric: _largest(evaluation, metric) for metric in evaluation.metrics},
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def worst_ranks(evaluation: Evaluation, names: Iterable[str], worst: int) -> dict[str, dict[str, int]]:
    """Name -> metric -> rank, 1 for the worst, for the `worst` worst images by each metric.

    Equal values have the order of `names`. An undefined value has no rank.
    """
    ranks: dict[str, dict[str, int]] = {}
    for metric in evaluation.metrics:
        sign = 1 if METRICS[metric].higher_is_better else -1
        values = {name: evaluation.scores[name][metric] for name in names}
        ordered = sorted((name for name in values if not math.isnan(values[name])), key=lambda n: sign * values[n])
        for place, name in enumerate(ordered[:worst], 1):
            ranks.setdefault(name, {})[metric] = place
    return ranks


def _card(evaluation: Evaluation, metric: str) -> dict[str, Any]:
    """One metric over the set."""
    values = [score[metric] for score in evaluation.scores.values()]
    spread = distribution(values)
    mean = evaluation.mean()[metric]
    short, _, unit = _title(metric).partition(" ")  # "SAD", "(10³)"
    better = "higher is better" if METRICS[metric].higher_is_better else ""
    quantiles = dict(zip(("min", "25 %", "median", "75 %", "max"), spread[3:8], strict=True)) if spread.n else {}
    return {
        "metric": metric,
        "short": short,
        "unit": " ".join(filter(None, [unit, better])),
        "finite": math.isfinite(mean),
        "mean": "no mean" if evaluation.failed or not values else format_value(metric, mean),
        "beside": _beside_mean(evaluation, metric, spread),
        "histogram": Markup(histogram_svg(spread, METRICS[metric].scale, mean if math.isfinite(mean) else None)),
        "quantiles": {name: format_value(metric, value) for name, value in quantiles.items()},
    }


def _beside_mean(evaluation: Evaluation, metric: str, spread: Distribution) -> str:
    """Number of images of the figures, and the mean where defined if it differs from the mean."""
    counts = [f"{spread.undefined} undefined"] * bool(spread.undefined)
    counts += [f"{spread.infinite} infinite"] * bool(spread.infinite)
    if evaluation.failed:
        return ", ".join([f"distribution of {_count(spread.n, 'image')}", *counts])
    if not counts:
        return f"mean of {_count(spread.n, 'image')}"
    if spread.n:
        others = evaluation.mean(skip_undefined=True)[metric]
        counts.append(f"mean of the other {spread.n}: {format_value(metric, others)}")
    return ", ".join(counts)


def _legend() -> dict[str, str]:
    ramp = signed_ramp()
    return {"scored": png_uri(error_map(*ramp)), "dimmed": png_uri(error_map(*ramp, trimap=ramp[0] * 0))}


def _cases(
    evaluation: Evaluation, ranks: dict[str, dict[str, int]], photographs: dict[str, Path] | None
) -> list[dict[str, Any]]:
    """The worst images, first those by the first metric; `shown` reads the files of one when it is called."""
    settings = {"quantise_trimaps": evaluation.quantise_trimaps, "photographs": photographs}
    cases = [
        {
            "name": name,
            "number": number,
            "places": places,
            "shown": functools.partial(picture_case, evaluation.cases[name], **settings),
        }
        for number, (name, places) in enumerate(ranks.items())
    ]
    return sorted(cases, key=lambda case: case["places"].get(evaluation.metrics[0], math.inf))


def _clips(evaluation: Evaluation) -> dict[str, Any] | None:
    """The table of the image sequences; None if none were requested."""
    if evaluation.sequences is None:
        return None
    mean = evaluation.sequence_mean()
    rows = []
    for clip in sorted(evaluation.sequences, key=natural_order):
        result = evaluation.sequences[clip]
        cells = [
            ("" if math.isnan(result[metric]) else repr(result[metric]), format_number(result[metric], scale))
            for metric, (_, scale) in SEQUENCE_COLUMNS.items()
        ]
        rows.append({"name": clip, "cells": [*cells, (result["pairs"], result["pairs"])]})
    titles = [(superscripts(title), "descending") for title, _ in SEQUENCE_COLUMNS.values()]
    has_no_mean = evaluation.failed or evaluation.failed_clips
    return {
        "columns": [("Clip", "ascending"), *titles, ("Pairs of frames", "descending")],
        "rows": rows,
        "means": [
            "no mean" if has_no_mean else format_number(mean[metric], scale)
            for metric, (_, scale) in SEQUENCE_COLUMNS.items()
        ],
    }


def _column(metric: str) -> tuple[str, str]:
    """A column's title, and the direction that a first click sorts in."""
    return _title(metric), "ascending" if METRICS[metric].higher_is_better else "descending"


def _largest(evaluation: Evaluation, metric: str) -> float:
    return max((score[metric] for score in evaluation.scores.values() if math.isfinite(score[metric])), default=0)


def _title(metric: str) -> str:
    return superscripts(METRICS[metric].title)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _photographs(image_dir: str | os.PathLike, names: Collection[str]) -> dict[str, Path]:
    """Photographs by name. Bare names are used if no name with its sub-folders agrees and bare names are unique."""
    found = fitted(names, images_by_stem(image_dir, recursive=True), "image", of="alpha")
    bare = {PurePosixPath(name).name: path for name, path in found.items()}
    if len(bare) < len(found) or any(name in found for name in names):
        return found
    bare = fitted({PurePosixPath(name).name for name in names}, bare, "image", of="alpha")
    return {name: bare[PurePosixPath(name).name] for name in names if PurePosixPath(name).name in bare}


def _content_security_policy(template: str) -> str:
    """Policy that allows the page only its own styles, data: pictures and, by its hash, its script."""
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
