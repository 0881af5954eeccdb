"""The demo of `make demo`: convert weights, train, predict and score on procedural data.

    python tools/demo.py [--output-dir output/demo] [--images 24] [key=value ...]

Nothing is downloaded: the weights are random, in DINOv3's published layout, and the images are procedural. Each step is
a command that a user would type, and is printed before it runs.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from data.images.files import images_by_stem, read_rgb, write_png
from data.images.mattes import read_matte, read_trimap
from data.images.trimap import UNKNOWN, fuse_with_trimap
from data.synthetic import write_composition1k_layout
from data.testing.composition1k import Composition1k
from engine.inference import Predictor
from metrics import score_image
from modeling.backbone import ViT
from modeling.weights.system_file import read_system
from runtime.command_line import run

CONFIG = "configs/ViTMatte_demo.py"
TEST_SIZE = 384  # whole scenes, see SyntheticMatting
TEST_SEED = 2_000_003  # not used in training
SHEET_ROWS = 6
SOURCE_WEIGHTS = "dinov3_random.pth"
LARGEST_SHARE = 0.5  # largest ratio to the error of alpha = 0.5 in the unknown region


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output-dir", type=Path, default=Path("output/demo"), help="folder for all results (default: output/demo)"
    )
    parser.add_argument("--images", type=int, default=24, help="number of unseen images to predict and score")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that change the training config")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.output_dir
    test_set, mattes = folder / "test", folder / "mattes"

    clear_previous(folder)
    write_random_dinov3(folder / SOURCE_WEIGHTS)
    write_composition1k_layout(test_set, arguments.images, size=TEST_SIZE, seed=TEST_SEED)

    step("preprocess.py", "--weights", folder / SOURCE_WEIGHTS, "--output", folder / "backbone.pth")
    run_dir, backbone = f"train.output_dir={folder}/run", f"train.init_checkpoint={folder}/backbone.pth"
    step("main.py", "--config-file", CONFIG, "train.device=cpu", run_dir, backbone, *arguments.overrides)
    checkpoint = folder / "run" / "model_final.pth"
    step("inference.py", "--config-file", CONFIG, "--checkpoint", checkpoint, "--data-dir", test_set,
         "--output-dir", mattes)  # fmt: skip
    step("evaluation.py", "--pred-dir", mattes, "--label-dir", test_set / "alpha_copy", "--trimap-dir",
         test_set / "trimaps", "--json", folder / "scores.json", "--html", folder / "scores.html",
         "--image-dir", test_set / "merged")  # fmt: skip

    share = compare(test_set, mattes)
    write_png(folder / "contact_sheet.png", contact_sheet(test_set, mattes))
    print(f"\ncontact sheet (image | trimap | prediction | truth): {folder / 'contact_sheet.png'}")
    print(f"scores, distributions and the worst images, to open in a browser: {folder / 'scores.html'}")
    print(f"the demo took {time.monotonic() - started:.0f} s")
    if share >= LARGEST_SHARE:
        print(f"the model has not learned enough: expected less than {LARGEST_SHARE:.0%}", file=sys.stderr)
        return 1
    return 0


def clear_previous(folder: Path) -> None:
    """Remove the results of an earlier demo from `folder`, recognised by its weights. Other files are not touched."""
    if (folder / SOURCE_WEIGHTS).is_file():
        for name in ("test", "mattes", "run"):
            shutil.rmtree(folder / name, ignore_errors=True)


def write_random_dinov3(path: Path) -> None:
    """Save random weights of the demo's small backbone in the layout of the official DINOv3 files."""
    torch.manual_seed(0)
    state = ViT(in_chans=3, embed_dim=96, depth=4, num_heads=3).state_dict()
    for block in range(4):
        bias_mask = torch.ones(3, 96)
        bias_mask[1] = 0
        state[f"blocks.{block}.attn.qkv.bias_mask"] = bias_mask.flatten()
        for scale in ("ls1", "ls2"):
            state[f"blocks.{block}.{scale}.gamma"].fill_(0.1)  # like DINOv3's trained scales; they start at 1e-5
    state["mask_token"] = torch.zeros(1, 96)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def step(script: str, *arguments: object) -> None:
    """Print and run one command; exit with its status if it fails."""
    words = [script, *map(str, arguments)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, *words]).returncode
    if status:
        sys.exit(status)


def compare(test_set: Path, mattes: Path) -> float:
    """Print mean SADs of the trained model, of alpha = 0.5 and of the model in the box; return the ratio of the first
    two.

    The model in the box was trained on photographic composites for much longer, which shows what more training gains.
    """
    sads: dict[str, list[float]] = {"model": [], "half": [], "box": []}
    predictions, box = images_by_stem(mattes), Predictor(read_system())
    for sample in Composition1k(str(test_set)):
        alpha, trimap = sample["alpha"], sample["trimap"]
        half = fuse_with_trimap(np.full_like(alpha, UNKNOWN), trimap)
        candidates = {"model": read_matte(predictions[sample["name"]]), "half": half, "box": box.one(sample)["alpha"]}
        for name, matte in candidates.items():
            sads[name].append(score_image(matte, alpha, trimap)["sad"])
    model, half, shipped = (float(np.mean(sads[name])) for name in ("model", "half", "box"))
    print(
        f"\nmean SAD on {len(sads['model'])} unseen images: {model:.3f}; alpha = 0.5 in the unknown region: {half:.3f}"
    )
    print(f"the model's error is {model / half:.0%} of it; the model in the box: {shipped:.3f}")
    return model / half


def contact_sheet(test_set: Path, mattes: Path) -> np.ndarray:
    """Stack image | trimap | prediction | truth of evenly spaced test images, (H, W, 3) uint8."""
    folders = [images_by_stem(folder) for folder in (test_set / "merged", test_set / "trimaps", mattes)]
    truths = images_by_stem(test_set / "alpha_copy")
    names = list(truths)[:: max(1, len(truths) // SHEET_ROWS)][:SHEET_ROWS]
    rows = []
    for name in names:
        image, trimap, prediction = (folder[name] for folder in folders)
        grays = [read_trimap(trimap), read_matte(prediction), read_matte(truths[name])]
        rows.append(
            np.concatenate([read_rgb(image), *(np.repeat(gray[..., None], 3, axis=2) for gray in grays)], axis=1)
        )
    return np.concatenate(rows)


if __name__ == "__main__":
    run(main)
