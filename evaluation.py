"""Score a folder of predicted mattes: SAD, MSE, Grad and Conn as papers report them, and more on demand.

    python evaluation.py --pred-dir P --label-dir L --trimap-dir T --json scores.json
    python evaluation.py --pred-dir P --label-dir L --trimap-dir T --html scores.html --image-dir I

docs/metrics.md says what the numbers are and what the reports hold.
"""

import argparse
import sys
from pathlib import Path

from data.errors import InputError
from engine.cli import run
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
from metrics.dataset import REGIONS
from metrics.names import NAMED_AT_MOST, name_some, printable


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    check_outputs(options)
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
    print(format_table(evaluation))
    warn(evaluation)
    if options.json is not None:
        write_json(options.json, evaluation)
    if options.csv is not None:
        write_csv(options.csv, evaluation)
    if options.html is not None:
        write_html(options.html, evaluation, options.image_dir, options.worst)
    if evaluation.interrupted:
        raise KeyboardInterrupt
    if evaluation.failed:
        raise InputError(describe_failures(evaluation))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Score predicted mattes as papers do.")
    parser.add_argument("--pred-dir", required=True, type=Path, help="predictions, 8-bit gray images")
    parser.add_argument("--label-dir", required=True, type=Path, help="true alpha mattes of the same names")
    parser.add_argument("--trimap-dir", type=Path, help="trimaps of the same names; not scored by --region whole")
    parser.add_argument("--region", choices=REGIONS, default="unknown", help="pixels to score (default: unknown)")
    parser.add_argument(
        "--metrics",
        type=lambda names: names.split(","),
        default=PAPER_METRICS,
        metavar="LIST",
        help=f"what to compute, of {','.join(METRICS)} (default: {','.join(PAPER_METRICS)})",
    )
    parser.add_argument("--sequences", action="store_true", help="score dtSSD and MESSDdt; a folder is a clip")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per image as CSV")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page: distributions, worst images, table")
    parser.add_argument("--image-dir", type=Path, metavar="DIR", help="photographs for the page, of the same names")
    parser.add_argument("--worst", type=int, default=12, metavar="N", help="worst images by each metric pictured (12)")
    parser.add_argument("--num-workers", type=int, metavar="N", help="processes (default: what is worth it)")
    parser.add_argument("--allow-missing", action="store_true", help="score without the missing predictions")
    parser.add_argument("--quantise-trimaps", action="store_true", help="snap trimap values other than 0, 128 and 255")
    return parser


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before anything is scored, what would fail when the reports are written."""
    for output in (options.json, options.csv, options.html):
        if output is not None and output.is_dir():
            raise InputError(f"{output}: expected a file to write the report to, found a folder; add a file name")
    if options.worst < 0:
        raise InputError(f"--worst: expected 0 or more, got {options.worst}")
    if options.image_dir is not None and not options.image_dir.is_dir():
        raise InputError(f"{options.image_dir}: expected a folder of photographs for the page, found none")


def warn(evaluation: Evaluation) -> None:
    """Say on stderr what makes the mean other than it seems."""
    if evaluation.missing:
        print(
            f"warning: {len(evaluation.missing)} of {evaluation.expected} predictions are missing "
            f"({name_some(evaluation.missing)}); the mean is over the others",
            file=sys.stderr,
        )
    empty = evaluation.without_unknown
    if empty:
        print(
            f"warning: {len(empty)} of {len(evaluation.scores)} images without any unknown pixel ({name_some(empty)}): "
            "MSE is undefined there and so is its mean; SAD, Grad and Conn count as 0; check the trimaps",
            file=sys.stderr,
        )


def describe_failures(evaluation: Evaluation) -> str:
    """Return one line naming the images that could not be scored and why."""
    reasons = list(evaluation.failed.values())
    more = len(reasons) - NAMED_AT_MOST
    text = "; ".join(map(printable, dict.fromkeys(reasons[:NAMED_AT_MOST])))
    text += f"; and {more} more" if more > 0 else ""
    return f"{len(reasons)} of {evaluation.expected} images could not be scored: {text}"


if __name__ == "__main__":
    run(main)
