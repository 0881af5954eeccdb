"""Benchmark of inference with transformers' VitMatte-S: time, peak memory and difference of alpha on the same weights.

    python tools/benchmark_inference.py [--sizes 512 1024 2048] [--shares 10 20 40] [--repeats 3]

Both models have the same random weights: those of transformers, converted as in preprocess.py. Every measurement is in
a separate process, ours and theirs alternate, and the ratio is the median of the pairs' ratios. Time is for one
prediction after a warm-up, which has the same size up to 1024 and 256 x 256 above, from a tensor in memory to alpha.
Memory is the peak resident memory of the process, including libraries and weights. A process that leaves less than a
reserve of the machine's memory is ended and reported as not run. Trimaps are bands around a blob's outline, with a
width that gives the share of unknown pixels. With --precision bf16 ours runs under autocast; theirs stays in float32.
"""

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting
from transformers import __version__ as transformers_version

from modeling.backbone import ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte
from modeling.meta_arch.vitmatte import pad_to_multiple
from modeling.pretrained import MattingArchitecture, convert
from runtime.memory import available_memory, keep_freed_memory, peak_gib

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESERVE = 0.5 * 2**30  # bytes of the machine's memory that a model must leave
WARM_UP_LIMIT = 1024  # largest side for which the warm-up has the measured size
ROW = "{:>6} {:>8}  {:>8} {:>8} {:>6}   {:>6} {:>6} {:>6}   {:>8}"


def main() -> None:
    options = parse_arguments()
    if options.measure:
        measure(*options.measure, options.precision)
        return
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers_version}"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}; ours in {options.precision}")
    print(ROW.format("side", "unknown", "theirs s", "ours s", "ratio", "GiB", "GiB", "share", "max diff"))
    for side in options.sizes:
        for share in options.shares:
            print(compare(side, share, options.repeats if side <= 1024 else 1, options.precision), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="sides of square images")
    parser.add_argument("--shares", type=int, nargs="+", default=[10, 20, 40], help="unknown pixels, percent")
    parser.add_argument("--repeats", type=int, default=3, help="pairs for images up to 1024; larger ones run once")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="precision of ours")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)  # model, side, share, file for alpha
    return parser.parse_args()


def compare(side: int, share: int, repeats: int, precision: str) -> str:
    """Measure both models alternately and return the row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / f"{name}.npy") for name in ("theirs", "ours")}
        runs = [{name: run(name, side, share, file, precision) for name, file in files.items()} for _ in range(repeats)]
        ours = [each["ours"] for each in runs if each["ours"] is not None]
        if not ours:
            return ROW.format(side, f"{share} %", "", "not run", *[""] * 5)
        seconds = statistics.median(each["seconds"] for each in ours)
        peak = max(each["peak"] for each in ours)
        if any(each["theirs"] is None for each in runs):
            return ROW.format(side, f"{share} %", "not run", f"{seconds:.2f}", "", "", f"{peak:.2f}", "", "")
        theirs = [each["theirs"] for each in runs]
        their_peak = max(each["peak"] for each in theirs)
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(theirs, ours, strict=True))
        unknown = trimap_of(side, share).numpy()[0, 0] == 0.5
        difference = np.abs(np.load(files["theirs"]) - np.load(files["ours"]))[unknown].max()
    their_seconds = statistics.median(each["seconds"] for each in theirs)
    return ROW.format(
        side, f"{share} %", f"{their_seconds:.2f}", f"{seconds:.2f}", f"{ratio:.2f}",
        f"{their_peak:.2f}", f"{peak:.2f}", f"{peak / their_peak:.2f}", f"{difference:.1e}",
    )  # fmt: skip


def run(name: str, side: int, share: int, file: str, precision: str) -> dict[str, float] | None:
    """Measure one model in a separate process; None if it ran out of memory."""
    command = [sys.executable, __file__, "--precision", precision, "--measure", name, str(side), str(share), file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if available_memory() < RESERVE:
                process.kill()
                return None
            time.sleep(0.05)
        printed, complaint = process.communicate()
    if process.returncode == 0:
        return json.loads(printed)
    if "can't allocate memory" in complaint:  # a single tensor exceeds the memory
        return None
    raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}: {complaint}")


def measure(name: str, side: str, share: str, file: str, precision: str) -> None:
    """Predict once, save alpha, and print seconds and the peak in GiB."""
    model = transformers_model()
    if name == "ours":
        model = our_model(model)
        keep_freed_memory()  # as in inference.py
    image, trimap = random_image(int(side)), trimap_of(int(side), int(share))
    lower = name == "ours" and precision == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
        if int(side) <= WARM_UP_LIMIT:
            predict(model, image, trimap)
        else:
            predict(model, random_image(256), trimap_of(256, int(share)))
        started = time.perf_counter()
        alpha = predict(model, image, trimap)
        seconds = time.perf_counter() - started
    np.save(file, alpha.numpy()[0, 0])
    print(json.dumps({"seconds": seconds, "peak": peak_gib()}))


def predict(model: nn.Module, image: Tensor, trimap: Tensor) -> Tensor:
    """Alpha (1, 1, H, W) from the input of the model's kind. For transformers, sides are padded to multiples of 32."""
    if isinstance(model, ViTMatte):
        return model({"image": image, "trimap": trimap})["phas"]
    height, width = image.shape[-2:]
    mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (MEAN, STD))
    inputs = pad_to_multiple(torch.cat([(image - mean) / std, trimap], dim=1), 32)
    return model(pixel_values=inputs).alphas[..., :height, :width]


def random_image(side: int) -> Tensor:
    """(1, 3, side, side) in [0, 1], the same in every process."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def trimap_of(side: int, share: int) -> Tensor:
    """A trimap (1, 1, side, side) of 0, 0.5 and 1: a wavy blob whose outline is unknown, `share` percent of all."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = np.arctan2(y, x)
    inside = np.hypot(y, x) < 0.3 + 0.05 * np.sin(5 * angle) + 0.02 * np.sin(13 * angle)
    distance = np.where(inside, ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
    unknown = distance <= np.quantile(distance, share / 100)
    return torch.from_numpy(np.where(unknown, 0.5, inside)).float()[None, None]


def transformers_model() -> VitMatteForImageMatting:
    """VitMatte-S as published (relative positions, windows of 14), its weights random."""
    backbone = VitDetConfig(
        hidden_size=384, num_attention_heads=6, num_channels=4, image_size=512, pretrain_image_size=224,
        window_size=14, window_block_indices=[0, 1, 3, 4, 6, 7, 9, 10], residual_block_indices=[2, 5, 8, 11],
        out_features=["stage12"], use_relative_position_embeddings=True, use_absolute_position_embeddings=True,
        qkv_bias=True, hidden_act="gelu",
    )  # fmt: skip
    config = VitMatteConfig(
        backbone_config=backbone, convstream_hidden_sizes=[48, 96, 192], fusion_hidden_sizes=[256, 128, 64, 32]
    )
    model = VitMatteForImageMatting(config)
    randomise(model)
    return model.eval()


def randomise(model: nn.Module) -> None:
    """Set every tensor to random values, because an initialised model predicts 0.5 everywhere and hides errors."""
    torch.manual_seed(0)
    for tensor in model.parameters():
        nn.init.normal_(tensor, *((0, 1.4 * tensor[0].numel() ** -0.5) if tensor.ndim > 1 else (0.5, 0.2)))


def our_model(theirs: VitMatteForImageMatting) -> ViTMatte:
    """This project's model with transformers' weights, converted."""
    conversion = convert(theirs.state_dict(), config=theirs.config.to_dict())
    architecture = MattingArchitecture.from_metadata(conversion.metadata)
    model = ViTMatte(
        backbone=ViT(**architecture.vit_arguments()),
        decoder=DetailCapture(**architecture.decoder_arguments()),
        criterion=MattingCriterion(),
        pixel_mean=MEAN,
        pixel_std=STD,
    )
    model.load_state_dict(conversion.model)
    return model.eval()


if __name__ == "__main__":
    main()
