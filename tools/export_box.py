"""Write a trained model as files for distribution: weights in half precision, and their description with SHA-256.

    python tools/export_box.py --run output/box --output weights/box --name matting

The weights are those of model_final.pth or another checkpoint of the run; with train.ema_decay, the average.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from modeling.weights.model_config import build_model
from modeling.weights.shipped import read_shipped
from modeling.weights.shipping import write_shipped
from runtime.command_line import run

SIZE_LIMIT = 16 * 10**6  # bytes, a size that a repository can easily hold


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument(
        "--checkpoint", default="model_final.pth", help="checkpoint in the run folder (default: model_final.pth)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for NAME.safetensors and NAME.json")
    parser.add_argument("--name", default="matting", help="NAME of the files (default: matting)")
    arguments = parser.parse_args()
    path = write_shipped(arguments.run / arguments.checkpoint, arguments.output, arguments.name, SIZE_LIMIT)
    checkpoint = read_shipped(path)
    build_model(checkpoint, path)
    millions = sum(value.numel() for value in checkpoint["model"].values()) / 1e6
    megabytes = path.with_suffix(".safetensors").stat().st_size / 1e6
    print(f"{path}: {millions:.2f} million parameters, {megabytes:.1f} MB")


if __name__ == "__main__":
    run(main)
