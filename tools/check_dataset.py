"""Check a training set before training: decode every file, and report every problem with a remedy.

    python tools/check_dataset.py --root DIM --bg-names training_bg_names.txt --test-names test_fg_names.txt
    python tools/check_dataset.py --layout am-2k --root AM-2k/train --json report.json
    python tools/check_dataset.py --image-dir photographs --alpha-dir mattes [--bg-dir backgrounds]

The exit status is 0 without problems and 2 with problems. A problem stops training or harms the model. A note
does neither.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.files import check_outputs
from data.preparation.dataset_check import CheckReport, Lists, TrainingSet, check_dataset, write_report
from data.preparation.findings import KINDS, NOTE, PROBLEM
from data.training.alpha_layouts import LAYOUTS, find_folders
from runtime.command_line import run
from runtime.errors import InputError
from runtime.pool import usable_cpus
from runtime.text import printable

NOTES_SHOWN = 3  # number of printed notes of each kind; the JSON file has all


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    if options.workers < 1 or options.crop_size < 1:
        raise InputError(f"--workers and --crop-size: expected 1 or more, got {options.workers}, {options.crop_size}")
    lists = Lists(options.names, options.bg_names, options.test_names)
    if options.json is not None:
        check_outputs([options.json], [*lists.images, *lists.backgrounds, *lists.tests])
    report = check_dataset(training_set(options), lists, options.crop_size, options.workers)
    print_report(report)
    if options.json is not None:
        write_report(options.json, report)
    return 2 if report.of(PROBLEM) or (options.strict and report.of(NOTE)) else 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the set")
    parser.add_argument(
        "--layout", choices=["dim", *LAYOUTS], default="dim", help="layout of the set (dim: fg, alpha, bg)"
    )
    parser.add_argument("--image-dir", type=Path, metavar="DIR", help="folder of foregrounds or photographs")
    parser.add_argument("--alpha-dir", type=Path, metavar="DIR", help="folder of their alphas")
    parser.add_argument("--bg-dir", type=Path, metavar="DIR", help="folder of backgrounds")
    for option, what in (
        ("--names", "lists of images that the set must contain"),
        ("--bg-names", "lists of backgrounds that the set must contain"),
        ("--test-names", "lists of test images and backgrounds that the set must not contain"),
    ):
        parser.add_argument(option, type=Path, nargs="+", default=[], metavar="FILE", help=what)
    parser.add_argument("--crop-size", type=int, default=512, metavar="N", help="crop size of training (default: 512)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with status 2 for notes too")
    parser.add_argument(
        "--workers", type=int, default=usable_cpus(), metavar="N", help="number of processes (default: all processors)"
    )
    return parser


def training_set(options: argparse.Namespace) -> TrainingSet:
    """Folders of the training set that the options name."""
    if options.root is None or options.layout != "dim":
        layout = None if options.layout == "dim" else options.layout
        if not (options.root and layout) and not (options.image_dir and options.alpha_dir):
            raise InputError("expected --root, or --image-dir and --alpha-dir; see --help")
        return TrainingSet(*find_folders(options.root, layout, options.image_dir, options.alpha_dir), options.bg_dir)
    return TrainingSet(
        options.image_dir or options.root / "fg",
        options.alpha_dir or options.root / "alpha",
        options.bg_dir or options.root / "bg",
    )


def print_report(report: CheckReport) -> None:
    """Print all problems, some notes of each kind, and the numbers of both."""
    for finding in report.of(PROBLEM):
        print(f"problem: {printable(str(finding))}")
    for kind in KINDS:
        notes = [finding for finding in report.of(NOTE) if finding.kind == kind]
        for finding in notes[:NOTES_SHOWN]:
            print(f"note: {printable(str(finding))}")
        if len(notes) > NOTES_SHOWN:
            print(f"note: {kind}: and {len(notes) - NOTES_SHOWN} more; --json has them all")
    checked = ", ".join(f"{count} {role}s" for role, count in report.checked.items())
    counts = ", ".join(f"{kind} {count}" for kind, count in report.counts().items())
    print(
        f"{checked} checked: {len(report.of(PROBLEM))} problems, {len(report.of(NOTE))} notes"
        + (f" ({counts})" if counts else "")
    )


if __name__ == "__main__":
    run(main)
