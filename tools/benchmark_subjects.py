"""Benchmark of finding a subject in a box: the original GrabCut against this project's start, on composites.

    python tools/benchmark_subjects.py --foregrounds DIR --backgrounds DIR [--images 60] [--seed 0] [--matting]

A foreground is a cut-out: a PNG of 150 pixels or more with an alpha channel, in DIR or below it, or the pair
DIR/fg/NAME.png and DIR/alpha/NAME.png of tools/render_foregrounds.py. Each is composited over a window of a background,
which is often recoloured to resemble it, and the picture is degraded as by a camera (data/training/realism.py). The box
around alpha > 0.5 is up to 5 % too wide on each side. IoU is the overlap of the mask with alpha > 0.5; SAD (with
--matting) is that of the matte of the whole chain, over the whole picture, with the model in the box. Parentheses have
the 95 % bootstrap interval of the difference to the original GrabCut.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from PIL import Image

from data.images.files import image_paths, read_gray, read_rgb
from data.images.mask_to_trimap import SEGMENTATION
from data.rendering.scene import extended
from data.training.realism import Realism, draw_look
from engine.inference import Predictor
from engine.inference.auto_matte import AutoMatte
from engine.inference.box_prior import Box
from engine.inference.subjects import PointedSubjects, Subject
from metrics import METRICS, score_image
from modeling.weights.system_file import read_system
from runtime.command_line import run
from runtime.errors import InputError

LOOK = Realism(largest_blur=6.0, hue_prob=0.15, largest_noise=0.02)
ROUNDS = 5
SMALLEST_SIDE = 150  # pixels of a cut-out; smaller ones would be blurred
SMALLEST, LARGEST = 0.45, 0.97  # share of the picture's width or height that a subject takes
CUT_SHARE = 0.4  # of the subjects are cut by the lower edge of the picture, or touch it
WIDEST_MARGIN = 0.05  # of a box, as a share of the subject's width or height
Finder = Callable[[Box], Callable[..., Subject]]


class Sample(NamedTuple):
    """A composite (H, W, 3) uint8, its alpha (H, W) uint8, and a box around its subject."""

    image: np.ndarray
    alpha: np.ndarray
    box: Box


def original_grabcut(box: Box) -> Callable[..., Subject]:
    """GrabCut as its paper starts it: all of the box is probably subject, and the picture outside is background."""

    def subject(arrays: dict[str, np.ndarray]) -> Subject:
        image = arrays["image"]
        left, top, right, bottom = box
        labels = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
        labels[top:bottom, left:right] = cv2.GC_PR_FGD
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image[..., ::-1].copy(), labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        return Subject((labels % 2).astype(np.float32), 1.0, is_sharp=True, cleaning=SEGMENTATION)

    return subject


FINDERS: dict[str, Finder] = {"original GrabCut": original_grabcut, "PointedSubjects": PointedSubjects}


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    foregrounds, backgrounds = cut_outs(options.foregrounds), image_paths(options.backgrounds)
    if not foregrounds or not backgrounds:
        raise InputError("--foregrounds, --backgrounds: expected cut-outs and pictures, found none")
    matting = Predictor(read_system()) if options.matting else None
    ious, sads, seconds = ({name: [] for name in FINDERS} for _ in range(3))
    for index in range(options.images):
        rng = np.random.default_rng((options.seed, index))
        foreground, background = (files[rng.integers(len(files))] for files in (foregrounds, backgrounds))
        sample = composite(rng, *read_cut_out(foreground), read_rgb(background), options.size)
        for name, finder in FINDERS.items():
            started = time.process_time()
            subject = finder(sample.box)({"image": sample.image})
            seconds[name].append(time.process_time() - started)
            ious[name].append(overlap(subject.mask(), sample.alpha > 127))
            if matting is not None:
                alpha = AutoMatte(lambda _, found=subject: found, matting).one({"image": sample.image})["alpha"]
                sads[name].append(score_image(alpha, sample.alpha)["sad"] * METRICS["sad"].scale)
    cells = [f"{options.images} composites, seed {options.seed}", "IoU", "IoU > 0.9", "IoU > 0.8", "SAD", "processor s"]
    print(f"| {' | '.join(cells)} |\n" + "| --- " * len(cells) + "|")
    first = next(iter(FINDERS))
    for name in FINDERS:
        iou, base = np.array(ious[name]), np.array(ious[first])
        row = [name, f"{iou.mean():.3f}{interval(iou - base)}"]
        row += [f"{(iou > least).mean():.1%}" for least in (0.9, 0.8)]
        sad = f"{np.mean(sads[name]):.2f}{interval(np.subtract(sads[name], sads[first]))}" if sads[name] else "–"
        print(f"| {' | '.join([*row, sad, f'{np.mean(seconds[name]):.2f}'])} |")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--foregrounds", type=Path, required=True, help="folder of cut-outs")
    parser.add_argument("--backgrounds", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=60, help="number of composites (default: 60)")
    parser.add_argument("--size", type=int, default=640, help="longer side in pixels (default: 640)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the composites (default: 0)")
    parser.add_argument("--matting", action="store_true", help="also predict the mattes, for their SAD")
    options = parser.parse_args(arguments)
    if options.images < 1 or options.size < 64:
        raise InputError(
            f"--images, --size: expected 1 or more and 64 or more, got {options.images} and {options.size}"
        )
    return options


def cut_outs(folder: Path) -> list[Path]:
    """Files of the cut-outs in a folder: the colours of a rendered library, or pictures with an alpha channel."""
    if (folder / "fg").is_dir() and (folder / "alpha").is_dir():
        return sorted((folder / "fg").glob("*.png"))
    return [path for path in sorted(folder.rglob("*.png")) if _is_cut_out(path)]


def _is_cut_out(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode == "RGBA" and min(image.size) >= SMALLEST_SIDE


def read_cut_out(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) uint8, continued into transparent pixels, and alpha (H, W) uint8."""
    if path.parent.name == "fg":
        return read_rgb(path), read_gray(path.parents[1] / "alpha" / path.name)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGBA"))
    opaque = pixels[..., 3:].astype(np.float32) / 255
    filled = extended(np.concatenate([pixels[..., :3] * opaque, opaque], axis=2))
    return np.rint(np.clip(filled, 0, 255)).astype(np.uint8), pixels[..., 3]


def composite(
    rng: np.random.Generator, colours: np.ndarray, alpha: np.ndarray, background: np.ndarray, side: int
) -> Sample:
    """Draw a picture whose longer side is `side`, with the subject somewhere in it."""
    shape = (side, round(side * rng.uniform(0.66, 0.8)))[:: rng.choice([1, -1])]
    left, top, right, bottom = bounds(alpha)
    share = rng.uniform(SMALLEST, LARGEST)
    scale = min(share * shape[1] / (right - left), share * shape[0] / (bottom - top))
    x = rng.random() * (shape[1] - scale * (right - left))
    y = rng.random() * (shape[0] - scale * (bottom - top))
    if rng.random() < CUT_SHARE:
        y = shape[0] - scale * (bottom - top) * rng.uniform(0.85, 1)
    placed = np.float32([[scale, 0, x - scale * left], [0, scale, y - scale * top]])
    if scale < 1:  # against aliasing
        blur = 0.5 / scale - 0.5
        colours, alpha = (cv2.GaussianBlur(part, (0, 0), max(blur, 0.1)) for part in (colours, alpha))
    alpha = cv2.warpAffine(alpha, placed, shape[::-1])
    colours = cv2.warpAffine(colours, placed, shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    look = draw_look(LOOK, rng)
    opacity, surface = alpha.astype(np.float32) / 255, colours.astype(np.float32) / 255
    behind = look.background(background, shape, surface, opacity)
    surface = look.foreground(surface, behind, opacity)
    picture = opacity[..., None] * surface + (1 - opacity[..., None]) * behind
    return Sample(look.photograph(picture.astype(np.float32)), alpha, drawn_box(rng, alpha))


def bounds(alpha: np.ndarray) -> Box:
    """The smallest box with all pixels above one half.

    Raises:
        InputError: there is none.
    """
    rows, columns = np.nonzero(alpha > 127)
    if not len(rows):
        raise InputError("--foregrounds: expected cut-outs with opaque pixels, found one without")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def drawn_box(rng: np.random.Generator, alpha: np.ndarray) -> Box:
    """A user's box: up to 5 % of the subject's size too wide on each side, within the picture."""
    left, top, right, bottom = bounds(alpha)
    before_x, before_y, after_x, after_y = rng.uniform(0, WIDEST_MARGIN, 4)
    width, height = right - left, bottom - top
    return (
        max(0, round(left - before_x * width)), max(0, round(top - before_y * height)),
        min(alpha.shape[1], round(right + after_x * width)), min(alpha.shape[0], round(bottom + after_y * height)),
    )  # fmt: skip


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def interval(differences: np.ndarray, draws: int = 2000) -> str:
    """95 % bootstrap interval of a mean in parentheses; nothing if all differences are 0."""
    if not np.any(differences):
        return ""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, (draws, len(differences))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f" ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    run(main)
