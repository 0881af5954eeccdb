"""Collect backgrounds for training: free photographs from Debian packages and scikit-image, and textures.

    apt-get download lomiri-wallpapers-16.04 gcompris-qt-data
    for package in *.deb; do dpkg -x $package unpacked; done
    python tools/collect_backgrounds.py --packages unpacked --output DIR --textures 300

Authors and licences are written to DIR/ATTRIBUTION.csv.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.synthetic.free_photographs import require_any, write_photographs, write_textures
from runtime.command_line import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="output folder for the JPEG files")
    parser.add_argument("--packages", type=Path, help="folder with the unpacked Debian packages")
    parser.add_argument("--textures", type=int, default=0, help="procedural backgrounds to add (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the procedural backgrounds (default: 0)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    written, missing = write_photographs(arguments.packages, arguments.output)
    require_any(written, arguments.textures)
    write_textures(arguments.output, arguments.textures, arguments.seed)
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    print(f"{len(written)} photographs and {arguments.textures} textures in {arguments.output}")


if __name__ == "__main__":
    run(main)
