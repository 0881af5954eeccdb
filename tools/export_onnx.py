"""Write a matting model as one ONNX file for any image size, checked against PyTorch in onnxruntime.

    python tools/export_onnx.py --config-file configs/NAME.py --checkpoint CKPT --output model.onnx
    python inference.py --onnx model.onnx --image IMAGE --trimap TRIMAP --output MATTE

This needs `pip install -r requirements/onnx.txt`. docs/inference.md describes the inputs and outputs of the file.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.files import check_outputs
from engine.config import build, load_config
from engine.onnx.export import LOWEST_OPSET, PRECISIONS, export_onnx
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.command_line import run
from runtime.errors import InputError


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="LazyConfig with which the checkpoint was trained")
    parser.add_argument("--checkpoint", required=True, help="checkpoint written by main.py or preprocess.py")
    parser.add_argument("--output", required=True, help="the ONNX file to write")
    parser.add_argument("--precision", default="fp32", help=f"{', '.join(PRECISIONS)} (default: fp32)")
    parser.add_argument("--opset", type=int, default=LOWEST_OPSET, help=f"opset of ONNX (default: {LOWEST_OPSET})")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    options = parser.parse_intermixed_args(arguments)
    if Path(options.output).suffix != ".onnx":
        raise InputError(f"{options.output}: expected a name that ends in .onnx")
    check_outputs([options.output], [options.config_file, options.checkpoint])

    model = build(load_config(options.config_file, options.overrides).model).eval()
    load_model(model, read_checkpoint(options.checkpoint), options.checkpoint)
    names = {"config": Path(options.config_file).name, "checkpoint": Path(options.checkpoint).name}
    differences = export_onnx(model, options.output, precision=options.precision, opset=options.opset, **names)
    for difference in differences:
        size = " x ".join(map(str, difference.shape))
        print(f"{size}: alpha differs from PyTorch's by {difference.largest:.1e} at most, {difference.mean:.1e} mean")
    print(f"{options.output}: {Path(options.output).stat().st_size / 2**20:.1f} MiB, {options.precision}")


if __name__ == "__main__":
    run(main)
