"""Write a matting model for transformers: a folder that VitMatteForImageMatting.from_pretrained loads.

    python tools/export_huggingface.py --config-file configs/ViTMatte_S_dino.py --checkpoint CKPT --output FOLDER

The model must have the original ViTMatte's backbone; transformers has no ViTMatte on DINOv3. Writing the folder does
not need transformers.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.config import build, load_config
from modeling.pretrained import export_huggingface
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.command_line import run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="LazyConfig with which the checkpoint was trained")
    parser.add_argument("--checkpoint", required=True, help="checkpoint written by main.py or preprocess.py")
    parser.add_argument("--output", required=True, help="output folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    options = parser.parse_intermixed_args(arguments)
    model = build(load_config(options.config_file, options.overrides).model)
    load_model(model, read_checkpoint(options.checkpoint), options.checkpoint)
    export_huggingface(model, options.output)
    print(f"wrote model.safetensors, config.json and preprocessor_config.json to {options.output}")


if __name__ == "__main__":
    run(main)
