"""Compare methods from their evaluation.py reports: paired differences, and a results table.

    python tools/compare.py vitmatte.json ours.json
    python tools/compare.py vitmatte.json ours.json --names "ViTMatte-S" "Ours" --latex table.tex --markdown -

All reports must have been scored on the same data. docs/comparing.md explains the output.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.files import check_outputs
from metrics.comparison import Comparison, compare
from metrics.image_scores import METRICS
from metrics.reports.comparison import MethodComparison, format_comparison, write_comparison_json
from metrics.reports.results_table import latex_table, markdown_table
from metrics.reports.saved import SavedReport, read_report, require_same_set
from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing
from runtime.text import name_some, printable

FEW = 20  # number below which a percentile interval is clearly too narrow (figures in docs/comparing.md)
RESAMPLES = (100, 1_000_000)  # fewer say nothing about the tails; more need memory without a gain


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = build_parser().parse_args(arguments)
    check_options(options)
    names = options.names or default_names(options.reports)
    baseline = choose_baseline(options.baseline, options.reports, names)
    methods = dict(zip(names, map(read_report, options.reports), strict=True))
    for name in names:
        require_same_set(methods[baseline], methods[name])
    result = MethodComparison(
        methods,
        baseline,
        {name: compare_with(methods[baseline], methods[name], options) for name in names if name != baseline},
        options.resample,
        options.resamples,
        options.confidence,
        options.seed,
    )
    print(format_comparison(result))
    warn(result)
    write_table(options.markdown, markdown_table(result.means))
    write_table(options.latex, latex_table(result.means))
    if options.json is not None:
        write_comparison_json(options.json, result)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="JSON reports of evaluation.py")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the methods (default: the file names)")
    parser.add_argument(
        "--baseline", metavar="NAME", help="method that the others are compared with (default: the first)"
    )
    parser.add_argument(
        "--resample",
        choices=["images", "truths"],
        default="images",
        help="truths: resample all images of a matte together, as the 20 in Composition-1k (default: images)",
    )
    parser.add_argument("--resamples", type=int, default=10_000, help="number of resamples (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default: 0)")
    parser.add_argument("--confidence", type=float, default=0.95, help="confidence of the intervals (default: 0.95)")
    parser.add_argument("--by", choices=METRICS, help="metric that ranks the images (default: sad, if available)")
    parser.add_argument("--top", type=int, default=10, help="images to list for each direction (default: 10)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="file for the results table; - prints it")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="file for the results table; - prints it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that make no sense, before any report is read."""
    if len(options.reports) < 2:
        raise InputError(f"expected two reports or more to compare, got {options.reports[0]} alone")
    files = [report.resolve() for report in options.reports]
    for index, file in enumerate(files):
        if file in files[:index]:
            raise InputError(f"{options.reports[index]}: given twice; every report must be of a different method")
    if options.names is not None:
        check_names(options.names, len(files))
    if not RESAMPLES[0] <= options.resamples <= RESAMPLES[1]:
        raise InputError(f"--resamples: expected {RESAMPLES[0]} to {RESAMPLES[1]}, got {options.resamples}")
    if not 0 < options.confidence < 1:
        raise InputError(f"--confidence: expected a fraction between 0 and 1, such as 0.95, got {options.confidence}")
    for option, value in (("--top", options.top), ("--seed", options.seed)):
        if value < 0:
            raise InputError(f"{option}: expected 0 or more, got {value}")
    outputs = (options.markdown, options.latex, options.json)
    check_outputs([output for output in outputs if output is not None and str(output) != "-"], files)


def check_names(names: Sequence[str], count: int) -> None:
    """Refuse --names that do not give each of `count` reports a different name."""
    if len(names) != count:
        raise InputError(f"--names: expected {count}, one for each report in their order, got {len(names)}")
    for index, name in enumerate(names):
        if not name.strip() or name in names[:index]:
            raise InputError(f"--names: {name!r} is {'given twice' if name.strip() else 'empty'}")


def default_names(reports: Sequence[Path]) -> list[str]:
    """Names of the reports: file names without extension, with as many parent folders as make them unique."""
    paths = [report.absolute() for report in reports]
    return [_shortest_name(path, [other for other in paths if other != path]) for path in paths]


def _shortest_name(path: Path, others: Sequence[Path]) -> str:
    parts = path.with_suffix("").parts
    for depth in range(1, len(parts)):
        if all(other.with_suffix("").parts[-depth:] != parts[-depth:] for other in others):
            return "/".join(parts[-depth:])
    return path.name if all(other.name != path.name for other in others) else str(path)  # a.json beside a.txt


def choose_baseline(wanted: str | None, reports: Sequence[Path], names: Sequence[str]) -> str:
    """Name of the method that `wanted` gives as a name or as the path of a report."""
    if wanted is None:
        return names[0]
    if wanted in names:
        return wanted
    for report, name in zip(reports, names, strict=True):
        if Path(wanted) == report:
            return name
    raise InputError(f"--baseline: expected one of {', '.join(names)}, got {wanted}")


def compare_with(baseline: SavedReport, report: SavedReport, options: argparse.Namespace) -> Comparison:
    """Compare a report with the baseline in the metrics that both have."""
    shared = [metric for metric in baseline.metrics if metric in report.metrics]
    if not shared:
        raise InputError(
            f"{baseline.file} has {', '.join(baseline.metrics)} and {report.file} has {', '.join(report.metrics)}: no "
            "metric in common; score both with the same --metrics"
        )
    if options.by is not None and options.by not in shared:
        raise InputError(f"--by: expected one of {', '.join(shared)}, which all reports have, got {options.by}")
    return compare(
        baseline.scores,
        report.scores,
        shared,
        by=options.by or ("sad" if "sad" in shared else shared[0]),
        top=options.top,
        resamples=options.resamples,
        confidence=options.confidence,
        seed=options.seed,
        groups={name: item.truth for name, item in baseline.items.items()} if options.resample == "truths" else None,
    )


def warn(result: MethodComparison) -> None:
    """Print warnings on stderr about incomplete reports and undefined metrics."""
    for report in result.methods.values():
        if report.missing:
            _warn(
                f"{report.file}: {len(report.scores)} of {report.expected} images were scored, the others were missing"
            )
    for name, comparison in result.against.items():
        for entry in comparison.differences:
            if entry.left_out:
                left_out, of = len(entry.left_out), len(entry.left_out) + entry.images
                _warn(
                    f"{name}: {METRICS[entry.metric].title} is undefined on {left_out} of {of} images "
                    f"({name_some(entry.left_out)}) there or in {result.baseline}; the difference is over "
                    f"{entry.images}"
                )
    warn_of_spread(result)


def warn_of_spread(result: MethodComparison) -> None:
    """Print warnings on stderr about intervals that are probably too narrow."""
    items = result.methods[result.baseline].items
    images, truths = len(items), len({item.truth for item in items.values()})
    if result.resample == "images" and truths < images:
        _warn(f"{images} images share {truths} truths, so they are not independent: see --resample truths")
    drawn = truths if result.resample == "truths" else images
    if drawn < FEW:
        _warn(f"{drawn} {result.resample} are few: the intervals are too narrow (docs/comparing.md)")


def _warn(text: str) -> None:
    print(f"warning: {printable(text)}", file=sys.stderr)


def write_table(file: Path | None, table: str) -> None:
    """Write a table atomically; "-" prints it, and None does nothing."""
    if file is None:
        return
    if str(file) == "-":
        print(f"\n{table}", end="")
        return
    with replacing(file) as temporary:
        temporary.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    run(main)
