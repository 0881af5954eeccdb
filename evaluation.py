"""Score a folder of predicted mattes with SAD, MSE, Grad and Conn, and optionally with other metrics.

    python evaluation.py --pred-dir P --label-dir L --trimap-dir T --json scores.json
    python evaluation.py --pred-dir P --label-dir L --trimap-dir T --html scores.html --image-dir I

docs/metrics.md defines the metrics and the contents of the reports.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.images.files import check_outputs, images_by_stem, passed_over
from data.images.remarks import counted
from metrics import (
    METRICS,
    PAPER_METRICS,
    Evaluation,
    format_table,
    score_folders,
    write_csv,
    write_html,
    write_json,
)
from metrics.folders import REGIONS
from runtime.command_line import run
from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST, name_some, printable


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = build_parser().parse_args(arguments)
    check_options(options)
    evaluation = score_folders(
        options.pred_dir,
        options.label_dir,
        options.trimap_dir,
        region=options.region,
        metrics=options.metrics,
        allow_missing=options.allow_missing,
        quantise_trimaps=options.quantise_trimaps,
        sequences=options.sequences,
        num_workers=options.num_workers,
        progress=True,
    )
    problems = write_reports(evaluation, options)  # before printing, so that a closed pipe does not prevent it
    print(format_table(evaluation))
    warn(evaluation, options)
    if evaluation.interrupted:
        raise KeyboardInterrupt
    if evaluation.failed or evaluation.failed_clips:
        problems.insert(0, describe_failures(evaluation))
    if problems:
        raise InputError("; ".join(problems))
    return 0


def write_reports(evaluation: Evaluation, options: argparse.Namespace) -> list[str]:
    """Write the requested reports. Returns the reasons why some could not be written."""
    html = partial(write_html, image_dir=options.image_dir, worst=options.worst)
    reports = ((options.json, write_json), (options.csv, write_csv), (options.html, html))
    problems = [why_not_written(write, path, evaluation) for path, write in reports if path is not None]
    return [problem for problem in problems if problem]


def why_not_written(write: Callable[[Path, Evaluation], None], path: Path, evaluation: Evaluation) -> str:
    """Write one report. Returns the reason why it could not be written, or an empty string."""
    try:
        write(path, evaluation)
    except InputError as error:
        return str(error)
    return ""


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description="Score predicted mattes with the metrics of matting papers.")
    parser.add_argument("--pred-dir", required=True, type=Path, help="folder of predictions, gray of 8 or 16 bits")
    parser.add_argument("--label-dir", required=True, type=Path, help="folder of true mattes with the same names")
    parser.add_argument(
        "--trimap-dir", type=Path, help="folder of trimaps with the same names; not needed for --region whole"
    )
    parser.add_argument("--region", choices=REGIONS, default="unknown", help="pixels to score (default: unknown)")
    parser.add_argument(
        "--metrics",
        type=lambda names: names.split(","),
        default=PAPER_METRICS,
        metavar="LIST",
        help=f"metrics to compute, some of {','.join(METRICS)} (default: {','.join(PAPER_METRICS)})",
    )
    parser.add_argument("--sequences", action="store_true", help="also score dtSSD and MESSDdt; each folder is a clip")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per image as CSV")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write an HTML page with distributions and the worst images"
    )
    parser.add_argument(
        "--image-dir", type=Path, metavar="DIR", help="folder of photographs for the HTML page, with the same names"
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=12,
        metavar="N",
        help="number of worst images on the HTML page, for each metric (default: 12)",
    )
    parser.add_argument("--num-workers", type=int, metavar="N", help="number of processes (default: automatic)")
    parser.add_argument(
        "--allow-missing", action="store_true", help="score the other images if predictions are missing"
    )
    parser.add_argument(
        "--quantise-trimaps", action="store_true", help="accept trimap values other than 0, 128 and 255"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse, before scoring, options that would fail when the reports are written."""
    check_outputs([output for output in (options.json, options.csv, options.html) if output is not None])
    if options.worst < 0:
        raise InputError(f"--worst: expected 0 or more, got {options.worst}")
    if options.image_dir is not None and options.html is None:
        raise InputError("--image-dir: only the page shows photographs; give --html FILE too")
    if options.image_dir is not None and not images_by_stem(options.image_dir, recursive=True):
        raise InputError(f"{options.image_dir}: expected a folder of photographs for the page, found none in it")


def warn(evaluation: Evaluation, options: argparse.Namespace) -> None:
    """Warn on stderr about everything that changes the meaning of the mean."""
    if evaluation.missing:
        print(
            f"warning: {len(evaluation.missing)} of {evaluation.expected} predictions are missing "
            f"({name_some(evaluation.missing)}); the mean is over the others",
            file=sys.stderr,
        )
    for folder in (options.pred_dir, options.label_dir, options.trimap_dir):
        left = passed_over(folder, recursive=True) if folder is not None and folder.is_dir() else ""
        if left:
            print(f"warning: {folder}: {left}", file=sys.stderr)
    for line in counted(evaluation.remarks):
        print(f"warning: {line}", file=sys.stderr)
    empty = evaluation.without_unknown
    if empty:
        print(
            f"warning: {len(empty)} of {len(evaluation.scores)} images without any unknown pixel ({name_some(empty)}): "
            "sums such as SAD count as 0, means such as MSE are undefined, and so is their mean; check the trimaps",
            file=sys.stderr,
        )


def describe_failures(evaluation: Evaluation) -> str:
    """One line with the images and clips that could not be scored, and the reasons."""
    parts = []
    for what, failed in (
        (f"of {evaluation.expected} images", evaluation.failed),
        ("clips", evaluation.failed_clips),
    ):
        reasons = list(dict.fromkeys(failed.values()))
        more = len(reasons) - NAMED_AT_MOST
        text = "; ".join(map(printable, reasons[:NAMED_AT_MOST])) + (f"; and {more} more" if more > 0 else "")
        if failed:
            parts.append(f"{len(failed)} {what} could not be scored: {text}")
    return "; ".join(parts)


if __name__ == "__main__":
    run(main)
