"""Convert published weights: encoders for training (DINOv3, DINOv2, DINO, MAE, VGG-16) and whole models.

Whole models are those of ViTMatte, DiffMatte, Deep Image Matting and nikhiliit/Dinov3_matting.

    python preprocess.py --weights dinov3_vits16_pretrain_lvd1689m-08c60483.pth --output dinov3_vits16.pth
    python preprocess.py --weights ViTMatte_S_Com.pth --output vitmatte_s.pth
    python preprocess.py --weights DiffMatte_ViTS.pth --output diffmatte_vits.pth

docs/weights.md lists sources of weights, accepted files and the contents of the converted file.
"""

import argparse

from modeling.pretrained import ARCHITECTURES, DATASETS, convert_file
from runtime.command_line import run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights",
        required=True,
        help=".pth or .safetensors file, or a folder from Hugging Face, which may contain shards",
    )
    parser.add_argument("--output", required=True, help=".pth file to write")
    parser.add_argument(
        "--arch",
        default="auto",
        choices=["auto", *ARCHITECTURES],
        metavar="ARCH",
        help=f"expected architecture, one of {', '.join(ARCHITECTURES)} (default: auto, which detects it)",
    )
    parser.add_argument(
        "--dataset",
        default="auto",
        choices=["auto", *DATASETS],
        help="data set that DINOv3 was trained on (default: auto, which detects it)",
    )
    parser.add_argument(
        "--img-size",
        type=int,
        help="crop size in pixels for which relative positions are interpolated (default: unchanged)",
    )
    parser.add_argument(
        "--num-heads", type=int, help="number of attention heads of an encoder, if the file does not contain it"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    conversion = convert_file(
        arguments.weights,
        arguments.output,
        arguments.arch,
        arguments.dataset,
        arguments.img_size,
        arguments.num_heads,
    )
    print(conversion.report)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    run(main)
