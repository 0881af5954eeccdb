"""HTML report of an evaluation on one page: distributions, pictures of the worst images, and a table of all images.

The page is self-contained and forbids itself to load anything, so it can be opened from a file without a network.
"""

import base64
import hashlib
import math
import os
import re
from collections.abc import Collection, Iterable
from html import escape
from pathlib import Path, PurePosixPath
from string import Template

from data.images.files import images_by_stem
from metrics.folders import Evaluation
from metrics.image_scores import METRICS
from metrics.reports.distribution import Distribution, distribution
from metrics.reports.histogram_svg import histogram_svg
from metrics.reports.pictures import CasePictures, Picture, Window, error_map, picture_case, png_uri, signed_ramp
from metrics.reports.scores import SEQUENCE_COLUMNS, format_number, format_value
from runtime.files import replacing
from runtime.text import natural_order, printable, superscripts

TEMPLATE_FILE = Path(__file__).with_suffix(".html")
REGION_WORDS = {"unknown": "unknown: the pixels where the trimap is 128", "whole": "whole: every pixel"}


def write_html(
    path: str | os.PathLike, evaluation: Evaluation, image_dir: str | os.PathLike | None = None, worst: int = 12
) -> None:
    """Write the report, complete or not at all.

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
    template = TEMPLATE_FILE.read_text(encoding="utf-8")
    page = Template(template).substitute(
        policy=_content_security_policy(template),
        title=escape(_headline(evaluation)),
        head=_head(evaluation),
        notices="\n".join(_notices(evaluation)),
        cards="\n".join(_card(evaluation, metric) for metric in evaluation.metrics),
        worst=_worst_section(evaluation, ranks, photographs),
        clips=_clips_section(evaluation),
        table=_table(evaluation, names, ranks),
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


# ---- the scored set


def _headline(evaluation: Evaluation) -> str:
    return f"{len(evaluation.scores)} of {_count(evaluation.expected, 'image')} scored, {evaluation.region} region"


def _head(evaluation: Evaluation) -> str:
    settings = [
        ("missing predictions allowed", evaluation.allow_missing),
        ("trimaps quantised", evaluation.quantise_trimaps),
        ("image NAME_k scored against truth NAME", evaluation.shared_truths),
    ]
    facts = {
        "Region": REGION_WORDS[evaluation.region],
        "Metrics": ", ".join(_title(metric) for metric in evaluation.metrics),
        "Settings": ", ".join(words for words, given in settings if given) or "the defaults",
        "Fingerprint": f"<code>{evaluation.fingerprint}</code>",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return (
        f'<p class="eyebrow">Matting evaluation</p>\n<h1>{escape(_headline(evaluation))}</h1>\n'
        f'<dl class="facts">{rows}</dl>'
    )


def _notices(evaluation: Evaluation) -> list[str]:
    """Notices about an incomplete set, the most severe first."""
    notices = []
    failed, missing, empty = evaluation.failed, evaluation.missing, evaluation.without_unknown
    if failed:
        cause = "Scoring was interrupted: " if evaluation.interrupted else ""
        words = f"{cause}{len(failed)} of {_count(evaluation.expected, 'image')} could not be scored"
        reasons = [f"{_name(name)}: {_text(reason)}" for name, reason in failed.items()]
        notices.append(_notice("failed", "No mean.", f"{words}; values below are for the others.", reasons, "broken"))
    if evaluation.failed_clips:
        reasons = [f"{_name(name)}: {_text(reason)}" for name, reason in evaluation.failed_clips.items()]
        notices.append(_notice("failed_clips", "Clips without a score.", "Their images are scored.", reasons, "broken"))
    if missing:
        words = f"{len(missing)} of {evaluation.expected} are missing; every figure is over the others."
        notices.append(_notice("missing", "Predictions are missing.", words, map(_name, missing)))
    if empty:
        words = (
            f"{len(empty)} of {len(evaluation.scores)} have no pixel to score: MSE is undefined there, and so is its "
            "mean; sums count as 0. Check the trimaps."
        )
        notices.append(_notice("without_unknown", "Images without unknown pixels.", words, map(_name, empty)))
    return notices


def _notice(kind: str, title: str, words: str, items: Iterable[str], more_class: str = "") -> str:
    listed = "".join(f"<li>{item}</li>" for item in items)
    return (
        f'<div class="notice {more_class}" id="{kind}" role="note"><strong>{title}</strong> {words}'
        f"<ul>{listed}</ul></div>"
    )


# ---- one metric


def _card(evaluation: Evaluation, metric: str) -> str:
    values = [score[metric] for score in evaluation.scores.values()]
    spread = distribution(values)
    mean = evaluation.mean()[metric]
    short, unit = _title_parts(metric)
    better = "higher is better" if METRICS[metric].higher_is_better else ""
    unit_words = " ".join(filter(None, [unit, better]))
    shown = "no mean" if evaluation.failed or not values else format_value(metric, mean)
    weight = "" if math.isfinite(mean) else " none"
    at_mean = mean if math.isfinite(mean) else None
    return (
        f'<article class="card" data-metric="{metric}"><h3>{short} <span>{unit_words}</span></h3>\n'
        f'<div class="mean{weight}">{shown}</div><p>{_beside_mean(evaluation, metric, spread)}</p>\n'
        f"{histogram_svg(spread, METRICS[metric].scale, at_mean)}\n{_quantiles(metric, spread)}</article>"
    )


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


def _quantiles(metric: str, spread: Distribution) -> str:
    if spread.n == 0:
        return ""
    shown = {
        "min": spread.minimum,
        "25 %": spread.lower_quartile,
        "median": spread.median,
        "75 %": spread.upper_quartile,
        "max": spread.maximum,
    }
    cells = (f"<div><dt>{name}</dt><dd>{format_value(metric, value)}</dd></div>" for name, value in shown.items())
    return f'<dl class="quantiles">{"".join(cells)}</dl>'


# ---- the worst images


def _worst_section(
    evaluation: Evaluation, ranks: dict[str, dict[str, int]], photographs: dict[str, Path] | None
) -> str:
    if not ranks:
        return ""
    first = evaluation.metrics[0]
    options = "".join(
        f'<label><input type="radio" name="metric" value="{metric}"{" checked" * (metric == first)}>'
        f"{_title_parts(metric)[0]}</label>"
        for metric in evaluation.metrics
    )
    by_first = sorted(ranks, key=lambda name: ranks[name].get(first, math.inf))
    numbers = {name: number for number, name in enumerate(ranks)}
    items = (_case(evaluation, name, numbers[name], ranks[name], photographs) for name in by_first)
    return (
        '<section id="worst">\n<div class="heading"><h2>Worst images</h2>'
        f'<fieldset class="chooser"><legend>Worst by</legend>{options}</fieldset></div>\n'
        f'{_legend(evaluation)}\n<ol class="cases">\n{"".join(items)}</ol>\n</section>'
    )


def _legend(evaluation: Evaluation) -> str:
    ramp = signed_ramp()
    scored = png_uri(error_map(*ramp))
    entries = [f'too transparent <img src="{scored}" width="255" alt="blue, white, red"> too opaque']
    if evaluation.region == "unknown":
        dimmed = png_uri(error_map(*ramp, trimap=ramp[0] * 0))
        entries.append(f'<img src="{dimmed}" width="120" alt="the same, dimmed"> not scored')
    entries.append("colour grows with the square root of the error")
    return '<p class="legend">Error map: ' + "".join(f"<span>{entry}</span>" for entry in entries) + "</p>"


def _case(
    evaluation: Evaluation, name: str, number: int, ranks: dict[str, int], photographs: dict[str, Path] | None
) -> str:
    first = evaluation.metrics[0]
    shown = picture_case(evaluation.cases[name], quantise_trimaps=evaluation.quantise_trimaps, photographs=photographs)
    places = "".join(f' data-{metric}="{place}"' for metric, place in ranks.items())
    scores = "".join(
        f'<div data-metric="{metric}"{" class=chosen" * (metric == first)}><dt>{_title_parts(metric)[0]}</dt>'
        f"<dd>{format_value(metric, evaluation.scores[name][metric])}</dd></div>"
        for metric in evaluation.metrics
    )
    hidden = "" if first in ranks else " hidden"
    return (
        f'<li class="case" id="case-{number}"{places}{hidden}>\n<header><h3>{_name(name)}</h3>'
        f'<dl class="scores">{scores}</dl></header>\n{_strips(name, shown)}</li>\n'
    )


def _strips(name: str, shown: CasePictures) -> str:
    columns = f'style="--pictures: {len(shown.pictures)}"'
    overviews = "".join(
        f"<figure><figcaption>{picture.title}</figcaption>{_overview(name, picture, shown if index == 0 else None)}"
        "</figure>"
        for index, picture in enumerate(shown.pictures)
    )
    strips = f'<div class="strip overviews" {columns}>{overviews}</div>\n'
    if shown.window is None:
        return strips
    x, y, width, height = shown.window
    crops = "".join(f"<figure>{_crop(name, picture, shown.window)}</figure>" for picture in shown.pictures)
    note = f"Largest error: {width} × {height} pixels from x {x}, y {y}, full resolution"
    return f'{strips}<p class="crop-note">{note}</p>\n<div class="strip crops" {columns}>{crops}</div>\n'


def _overview(name: str, picture: Picture, framed: CasePictures | None) -> str:
    if picture.overview is None:
        return _lost(picture.problem)
    frame = _frame(framed.window, framed.size) if framed is not None and framed.window is not None else ""
    return _shot(f"{picture.title} of {printable(name)}", picture.overview, picture.overview_size, frame)


def _crop(name: str, picture: Picture, window: Window) -> str:
    if picture.crop is None:
        return _lost(picture.problem) if picture.overview is not None else ""
    alt = f"{picture.title} of {printable(name)}, detail"
    return _shot(alt, picture.crop, (2 * window.width, 2 * window.height))


def _shot(alt: str, uri: str, size: tuple[int, int], over: str = "") -> str:
    return (
        f'<button type="button" class="shot"><img src="{uri}" width="{size[0]}" height="{size[1]}" '
        f'alt="{escape(alt)}" decoding="async">{over}</button>'
    )


def _frame(window: Window, size: tuple[int, int]) -> str:
    """Outline of the window over an overview of an image of `size`, without changing the pixels of the picture."""
    left, width = (100 * length / size[0] for length in (window.x, window.width))
    top, height = (100 * length / size[1] for length in (window.y, window.height))
    place = f"left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%"
    return f'<span class="where" style="{place}"></span>'


def _lost(problem: str) -> str:
    return f'<div class="lost">{_text(problem)}</div>'


# ---- the tables


def _table(evaluation: Evaluation, names: list[str], ranks: dict[str, dict[str, int]]) -> str:
    largest = {
        metric: max((score[metric] for score in evaluation.scores.values() if math.isfinite(score[metric])), default=0)
        for metric in evaluation.metrics
    }
    numbers = {name: number for number, name in enumerate(ranks)}
    rows = []
    for index, name in enumerate(names):
        score, item = evaluation.scores[name], evaluation.items[name]
        label = f'<a href="#case-{numbers[name]}">{_name(name)}</a>' if name in ranks else _name(name)
        cells = [_cell(label, index)]
        cells += [_value_cell(metric, score[metric], largest[metric]) for metric in evaluation.metrics]
        cells.append(_cell(score["pixels"], score["pixels"]))
        cells.append(_cell(f"{item.width} × {item.height}", item.width * item.height))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    columns = [
        (_title(metric), "ascending" if METRICS[metric].higher_is_better else "descending")
        for metric in evaluation.metrics
    ]
    heads = _heads([("Image", "ascending"), *columns, ("Pixels scored", "descending"), ("Size", "descending")])
    return f"{heads}\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"


def _clips_section(evaluation: Evaluation) -> str:
    """Table of the image sequences; empty if none were requested."""
    if evaluation.sequences is None:
        return ""
    rows = []
    for index, clip in enumerate(sorted(evaluation.sequences, key=natural_order)):
        result = evaluation.sequences[clip]
        figures = "".join(
            _cell(format_number(result[metric], scale), "" if math.isnan(result[metric]) else repr(result[metric]))
            for metric, (_, scale) in SEQUENCE_COLUMNS.items()
        )
        rows.append(f"<tr>{_cell(_name(clip), index)}{figures}{_cell(result['pairs'], result['pairs'])}</tr>")
    mean = evaluation.sequence_mean()
    means = "".join(
        f"<td>{'no mean' if evaluation.failed or evaluation.failed_clips else format_number(mean[metric], scale)}</td>"
        for metric, (_, scale) in SEQUENCE_COLUMNS.items()
    )
    columns = [(superscripts(title), "descending") for title, _ in SEQUENCE_COLUMNS.values()]
    heads = _heads([("Clip", "ascending"), *columns, ("Pairs of frames", "descending")])
    return (
        '<section id="clips">\n<div class="heading"><h2>Clips</h2></div>\n<div class="scroll"><table>'
        f"{heads}\n<tbody>{''.join(rows)}</tbody>\n<tfoot><tr><td>mean over clips</td>{means}<td></td></tr></tfoot>"
        "</table></div>\n</section>"
    )


def _heads(columns: list[tuple[str, str]]) -> str:
    """Headings of columns, given as (title, direction of the first sorting by a click).

    The rows are initially sorted by the first column.
    """
    cells = (
        f'<th scope="col" aria-sort="{"none" if index else first}" data-first="{first}">'
        f'<button type="button">{title}</button></th>'
        for index, (title, first) in enumerate(columns)
    )
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _cell(shown: object, value: object) -> str:
    """A cell with the number to sort by, or "" to be sorted last."""
    return f'<td data-value="{value}">{shown}</td>'


def _value_cell(metric: str, value: float, largest: float) -> str:
    """A cell with the printed value, the exact value to sort by, and a bar of its ratio to the largest."""
    if math.isnan(value):
        return '<td class="undefined" data-value="">undefined</td>'
    if math.isinf(value):
        return f'<td class="undefined" data-value="{"-" * (value < 0)}Infinity">infinite</td>'
    share = f' style="--share:{100 * max(0, value) / largest:.1f}%"' if largest > 0 else ""
    return f'<td class="value" data-value="{value!r}"{share}>{format_value(metric, value)}</td>'


# ---- texts and untrusted names


def _title(metric: str) -> str:
    return superscripts(METRICS[metric].title)


def _title_parts(metric: str) -> tuple[str, str]:
    """Parts of a title, such as ("SAD", "(10³)")."""
    short, _, unit = _title(metric).partition(" ")
    return short, unit


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _text(text: str) -> str:
    """Any text, including file names that are not valid text, as harmless and visible HTML."""
    return escape(printable(text))


def _name(name: str) -> str:
    return f'<bdi class="name">{_text(name)}</bdi>'  # isolates the writing direction of the name


def _photographs(image_dir: str | os.PathLike, names: Collection[str]) -> dict[str, Path]:
    """Photographs by name. Bare names are used if no name with its sub-folders agrees and bare names are unique."""
    found = images_by_stem(image_dir, recursive=True)
    bare = {PurePosixPath(name).name: path for name, path in found.items()}
    if len(bare) < len(found) or any(name in found for name in names):
        return found
    return {name: bare[PurePosixPath(name).name] for name in names if PurePosixPath(name).name in bare}


def _content_security_policy(template: str) -> str:
    """Policy that allows the page only its own styles, data: pictures and, by its hash, its script."""
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
