"""Reading JSON reports of `evaluation.py`, and refusing to compare reports of different data.

Report files are untrusted: their size is limited, they must be strict JSON, and every used value is checked.
docs/metrics.md has the fields.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from metrics.folders import REGIONS, Reference
from metrics.image_scores import METRICS
from metrics.reports.scores import FORMAT_VERSION
from runtime.errors import InputError
from runtime.text import name_some, printable

MAX_BYTES = 256 * 1024 * 1024  # some 700,000 images; a larger file is not a report
LARGEST = 1e12  # larger than any metric of an image of 4e8 pixels
SHA256 = re.compile(r"[0-9a-f]{64}")
AGAIN = "score it again: evaluation.py --json FILE"


@dataclass(frozen=True)
class SavedReport:
    """A complete evaluation as written: every image of its set is scored.

    Attributes:
        file: path of the report.
        region: "unknown" or "whole".
        fingerprint: 64 hexadecimal digits, equal for equal sets of truths and trimaps.
        expected: number of images in the truth.
        missing: names without a prediction, which were excluded.
        metrics: names in `METRICS` that every image has.
        scores: image -> metric -> value in the units of the report, NaN if undefined or infinite.
        items: image -> height, width, truth and trimap (SHA-256 of their pixels), the source of the fingerprint.
    """

    file: Path
    region: str
    fingerprint: str
    expected: int
    missing: list[str]
    metrics: tuple[str, ...]
    scores: dict[str, dict[str, float]]
    items: dict[str, Reference]


def read_report(path: str | os.PathLike) -> SavedReport:
    """Read a report that `evaluation.py --json` wrote.

    Raises:
        InputError: no such file, not a report, another format version, values of the wrong kind, or a report with
            failed images, which has no mean.

    Example:
        >>> from metrics.folders import Evaluation, Reference
        >>> from metrics.reports.scores import write_json
        >>> scores, items = {"a": {"sad": 2.0, "pixels": 4}}, {"a": Reference(2, 2, "0" * 64, None)}
        >>> write_json("scores.json", Evaluation("whole", 1, metrics=("sad",), scores=scores, items=items))
        >>> read_report("scores.json").scores
        {'a': {'sad': 2.0}}
    """
    path = Path(path)
    record = _parse(path)
    _require_version(path, record)
    try:
        return _checked(path, record)
    except (_UnfitError, KeyError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(printable(f"{path}: not a complete report of evaluation.py: {what}; {AGAIN}")) from error


def require_same_set(first: SavedReport, second: SavedReport) -> None:
    """Refuse two reports unless they score the same pixels of the same images.

    Raises:
        InputError: regions, or the sets of truths and trimaps, differ. The message names the first images that differ.
    """
    if first.region != second.region:
        raise InputError(
            f"{first.file} scores region {first.region}, {second.file} scores region {second.region}: such numbers "
            "must not be compared; score both with the same --region"
        )
    if first.fingerprint == second.fingerprint and first.items == second.items:
        return
    differences = describe_differences(first, second)
    if first.fingerprint == second.fingerprint or not differences:
        raise InputError(
            f"{first.file} and {second.file}: the fingerprints do not match the images they list"
            f"{f' ({differences})' if differences else ''}; one of the files was changed, score both again"
        )
    raise InputError(
        f"{first.file} and {second.file} are not of the same data: {differences}; "
        "score both against the same truths and trimaps"
    )


def describe_differences(first: SavedReport, second: SavedReport) -> str:
    """One-line description of the images that differ between two sets, empty if there are none."""
    shared = first.items.keys() & second.items.keys()
    unlike = {"of another size": set(), "with another truth": set(), "with another trimap": set()}
    for name in shared:
        one, other = first.items[name], second.items[name]
        if (one.height, one.width) != (other.height, other.width):
            unlike["of another size"].add(name)
        elif one.truth != other.truth:
            unlike["with another truth"].add(name)
        elif one.trimap != other.trimap:
            unlike["with another trimap"].add(name)
    groups = {
        f"only in {first.file}": first.items.keys() - shared,
        f"only in {second.file}": second.items.keys() - shared,
        **unlike,
    }
    return printable("; ".join(f"{len(names)} {what} ({name_some(names)})" for what, names in groups.items() if names))


class _UnfitError(ValueError):
    """A value in the file that a report cannot have; the message names it."""


def _parse(path: Path) -> dict:
    """The JSON object of the file, with finite numbers and unique keys."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "something else" if path.exists() else "nothing"
        raise InputError(f"{path}: expected a JSON report of evaluation.py, found {kind}")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 1024**2} MiB; expected a JSON report of evaluation.py")
    if not content.strip():
        raise InputError(f"{path}: the file is empty; expected a JSON report of evaluation.py")
    try:
        record = json.loads(
            content.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except RecursionError as error:
        raise InputError(f"{path}: not a report of evaluation.py (nested too deeply)") from error
    except ValueError as error:  # also raised for bytes that are not UTF-8, and for integers of thousands of digits
        raise InputError(f"{path}: not valid JSON ({error}); expected a report of evaluation.py") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON report of evaluation.py, found a JSON {type(record).__name__}")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return record


def _require_version(path: Path, record: dict) -> None:
    version = record.get("format_version")
    if type(version) is not int or "images" not in record:
        raise InputError(f"{path}: not a report of evaluation.py (no format_version or no images)")
    if version < FORMAT_VERSION:
        raise InputError(
            f"{path}: a report of format version {version}, without the fingerprint that identifies its data; {AGAIN}"
        )
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path}: a report of format version {version}, expected {FORMAT_VERSION}; it is from a newer release, "
            "update this one or score it again here"
        )


def _checked(path: Path, record: dict) -> SavedReport:
    """Build the report; raises `_UnfitError` or KeyError at the first wrong value."""
    failed = _of_type(record, "failed", dict)
    if failed:
        raise InputError(
            f"{path}: {len(failed)} images could not be scored ({printable(name_some(failed))}), so it has no mean; "
            "repair them and score again"
        )
    region = record["region"]
    if region not in REGIONS:
        raise _UnfitError(f"region is {region!r}")
    fingerprint = record["fingerprint"]
    _require_sha256(fingerprint, "fingerprint")
    metrics, scores = _scores(_of_type(record, "images", dict))
    items = {name: _item(name, item, region) for name, item in _of_type(record, "set", dict).items()}
    if items.keys() != scores.keys():
        unpaired = items.keys() ^ scores.keys()
        raise _UnfitError(f"images and set do not list the same names ({name_some(unpaired)})")
    expected = _of_type(record, "expected", int)
    missing = _of_type(record, "missing", list)
    if not all(isinstance(name, str) for name in missing):
        raise _UnfitError("missing contains something other than names")
    if scores.keys() & set(missing):
        raise _UnfitError(f"images both scored and missing ({name_some(scores.keys() & set(missing))})")
    if record["n"] != len(scores) or expected != len(scores) + len(missing):
        raise _UnfitError(f"n and expected do not match {len(scores)} scored and {len(missing)} missing images")
    return SavedReport(path, region, fingerprint, expected, missing, metrics, scores, items)


def _scores(images: dict) -> tuple[tuple[str, ...], dict[str, dict[str, float]]]:
    if not images:
        raise _UnfitError("no image was scored")
    metrics = None
    scores = {}
    for name, values in images.items():
        if not isinstance(values, dict):
            raise _UnfitError(f"the scores of {name} are {_kind(values)}")
        if metrics is None:
            unknown = values.keys() - METRICS.keys() - {"pixels"}
            if unknown:
                raise _UnfitError(f"metrics that this release does not know ({name_some(unknown)})")
            metrics = tuple(metric for metric in METRICS if metric in values)
        if values.keys() != {*metrics, "pixels"}:
            raise _UnfitError(f"{name} has other metrics than the first image")
        if _of_type(values, "pixels", int) < 0:
            raise _UnfitError(f"pixels of {name} is negative")
        scores[name] = {metric: _number(values[metric], f"{metric} of {name}") for metric in metrics}
    if not metrics:
        raise _UnfitError("the images have no metric")
    return metrics, scores


def _number(value: object, what: str) -> float:
    """A finite number, or NaN for null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnfitError(f"{what} is {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not abs(number) <= LARGEST:  # 1e999 is JSON
        raise _UnfitError(f"{what} is too large")
    if number < 0 and not what.startswith("ssim"):
        raise _UnfitError(f"{what} is negative")
    return number


def _item(name: str, item: object, region: str) -> Reference:
    if not isinstance(item, dict):
        raise _UnfitError(f"the set's entry of {name} is {_kind(item)}")
    for side in ("height", "width"):
        if _of_type(item, side, int) < 1:
            raise _UnfitError(f"the {side} of {name} is {item[side]}")
    _require_sha256(item["truth"], f"truth of {name}")
    if region == "unknown":
        _require_sha256(item["trimap"], f"trimap of {name}")
    elif item["trimap"] is not None:
        raise _UnfitError(f"a trimap of {name} in a report of region {region}")
    return Reference(**{key: item[key] for key in Reference._fields})


def _require_sha256(value: object, what: str) -> None:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise _UnfitError(f"{what} is not 64 hexadecimal digits")


def _of_type(record: Mapping, key: str, kind: type):
    value = record[key]
    if type(value) is not kind:  # not isinstance, because true and false are not integers here
        raise _UnfitError(f"{key} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
