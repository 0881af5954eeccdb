"""Render a library of foregrounds with exact alpha: DIR/fg/NAME.png and DIR/alpha/NAME.png.

python tools/render_foregrounds.py --count 400 --seed 0 --output foregrounds
python tools/render_foregrounds.py --count 20 --seed 1 --output leaves --families branch fern vine
python tools/render_foregrounds.py --count 800 --seed 0 --output both --families all --processes 16

A second run with the same options skips finished pictures. See docs/foregrounds.md.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.rendering.library import (
    LARGEST,
    SMALLEST,
    Library,
    checked_packages,
    chosen_families,
    picture,
    prepared,
)
from runtime.command_line import run
from runtime.errors import InputError
from runtime.pool import outcomes, usable_cpus


def main() -> None:
    """Parse the command line and render the missing pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for fg and alpha")
    parser.add_argument("--count", type=int, required=True, help="number of pictures, numbered from 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of the library (default: 0)")
    parser.add_argument("--size", type=int, default=512, help="side of a picture in pixels (default: 512)")
    parser.add_argument(
        "--processes", type=int, default=usable_cpus(), help="number of processes (default: all processors)"
    )
    parser.add_argument(
        "--families", nargs="+", default=["3d"], metavar="NAME", help="3d (default), 2d, all, or families by name"
    )
    args = parser.parse_args()
    check(args)
    library = Library(args.output, chosen_families(args.families), args.seed, args.size)
    prepared(library)
    missing = [index for index in range(args.count) if not library.has(index)]
    print(f"{args.output}: {args.count - len(missing)} of {args.count} pictures exist already", flush=True)
    if missing:
        picture("net", (0,), SMALLEST)  # compiles once, so that the processes do not compile
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for the processes started below, which provide the parallelism
    tasks = {library.name(index): index for index in missing}
    for done, (name, problem) in enumerate(outcomes(tasks, library.make, args.processes, ["data.rendering.scene"]), 1):
        if problem is not None:
            raise InputError(problem if name in problem else f"{name}: {problem}")
        if done % 50 == 0 or done == len(missing):
            print(f"{done} of {len(missing)} rendered", flush=True)


def check(args: argparse.Namespace) -> None:
    """Raise InputError for options out of range, or if a package is missing."""
    limits = {"count": (1, 10**7), "seed": (0, 2**63), "size": (SMALLEST, LARGEST), "processes": (1, 1024)}
    for name, (low, high) in limits.items():
        if not low <= getattr(args, name) <= high:
            raise InputError(f"--{name}: expected {low} to {high}, got {getattr(args, name)}")
    checked_packages()


if __name__ == "__main__":
    run(main)
