"""Write a procedural matting set as files, to try the programs without any download.

python tools/make_synthetic.py --output synthetic/train --count 100 --layout dim
python tools/make_synthetic.py --output synthetic/test --count 20 --layout composition1k --seed 1
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.synthetic import write_composition1k_layout, write_dim_layout
from runtime.command_line import run
from runtime.errors import InputError

WRITERS = {"dim": write_dim_layout, "composition1k": write_composition1k_layout}


def main() -> None:
    """Parse the command line, write the set and print its location."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", required=True, help="output folder")
    parser.add_argument("--count", type=int, default=20, help="number of samples (default: 20)")
    parser.add_argument("--size", default="512", help="pixels: SIDE, or HEIGHTxWIDTH (default: 512)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default: 0)")
    parser.add_argument("--layout", choices=sorted(WRITERS), default="composition1k")
    parser.add_argument("--backgrounds", choices=["mixed", "textures", "photographs"], default="mixed")
    args = parser.parse_args()
    writer = WRITERS[args.layout]
    names = writer(args.output, args.count, parse_size(args.size), args.seed, args.backgrounds)
    print(f"{len(names)} samples in {args.output} ({args.layout} layout)")


def parse_size(text: str) -> tuple[int, int]:
    """Read "512" or "480x640" as (height, width)."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise InputError(f"--size: expected SIDE or HEIGHTxWIDTH in pixels, got {text!r}")
    return sides[0], sides[-1]


if __name__ == "__main__":
    run(main)
