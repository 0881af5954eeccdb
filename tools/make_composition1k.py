"""Build the Composition-1k test set from the Deep Image Matting distribution, or compare a folder with its manifest.

    python tools/make_composition1k.py --test-set Combined_Dataset/Test_set \\
        --backgrounds VOCdevkit/VOC2008/JPEGImages --output Composition-1k
    python tools/make_composition1k.py --verify Composition-1k [--manifest manifest.json]

A second run continues where the first was stopped. docs/data.md describes the composites.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.preparation.composition1k_builder import (
    BACKGROUNDS_PER_FOREGROUND,
    MANIFEST,
    build_composition1k,
    plan_composites,
)
from data.preparation.manifest import read_manifest, verify
from runtime.command_line import run
from runtime.errors import InputError
from runtime.pool import usable_cpus
from runtime.text import printable


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status, 2 if a verified folder differs."""
    options = build_parser().parse_args(arguments)
    if options.workers < 1 or options.per_foreground < 1:
        raise InputError(
            f"--workers and --per-foreground: expected 1 or more, got {options.workers} and {options.per_foreground}"
        )
    if options.verify is not None:
        return print_verification(options.verify, options.manifest or options.verify / MANIFEST, options.workers)
    if options.manifest is not None:
        raise InputError("--manifest: needs --verify; a build writes manifest.json into --output")
    if not (options.test_set and options.backgrounds and options.output):
        raise InputError("expected --test-set, --backgrounds and --output, or --verify; see --help")
    composites = plan_composites(options.test_set, options.backgrounds, options.per_foreground)
    built = build_composition1k(composites, options.output, options.workers)
    print(f"{options.output}: {len(composites)} test images; {built.made} files made, {built.kept} kept; {MANIFEST}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--test-set", type=Path, metavar="DIR", help="folder Test_set of the distribution")
    parser.add_argument("--backgrounds", type=Path, nargs="+", metavar="DIR", help="folders of PASCAL VOC photographs")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for the test set and manifest.json")
    parser.add_argument(
        "--per-foreground",
        type=int,
        default=BACKGROUNDS_PER_FOREGROUND,
        metavar="N",
        help=f"backgrounds for each foreground (default: {BACKGROUNDS_PER_FOREGROUND})",
    )
    parser.add_argument("--verify", type=Path, metavar="DIR", help="folder to compare with a manifest")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest for --verify (default: in the folder)")
    parser.add_argument(
        "--workers", type=int, default=usable_cpus(), metavar="N", help="processes (default: one per processor)"
    )
    return parser


def print_verification(folder: Path, manifest_file: Path, num_workers: int) -> int:
    """Compare, print a line for each difference, and return the exit status."""
    manifest = read_manifest(manifest_file)
    result = verify(folder, manifest, num_workers)
    for problem in result.problems:
        print(printable(problem))
    print(
        f"{folder}: of {len(manifest.files)} files {result.identical} are identical, {result.recoded} have the same "
        f"pixels in another encoding; {len(result.problems)} problems"
    )
    return 2 if result.problems else 0


if __name__ == "__main__":
    run(main)
