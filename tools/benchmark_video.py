"""Steadiness of mattes over time: frame by frame, and with motion taken into account; and key frames carried along.

    python tools/benchmark_video.py [--frames 16] [--size 200x260] [--seeds 3 5] [--families hair solid]
    python tools/benchmark_video.py --key-frames 1 4 8 16 --frames 17

Procedural clips with the exact alpha of each frame, sensor noise, and a segmentation whose edge wanders: the true mask,
its edge displaced by a smooth random field that is drawn for each frame. Each frame goes from its probabilities to a
trimap to a matte (the model in the box), on the left as they are, on the right with `engine.video.steady`.

dtSSD is over the whole picture, SAD in thousands a frame. Flicker is the mean change of alpha from frame to frame where
the truth does not change, in thousandths, over the pixels that are unknown in any frame; a ratio below 1 is steadier.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from data.images.mask_to_trimap import trimap_from_mask, trimap_from_probability
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.synthetic.clips import ClipFrame, SyntheticClip
from engine.inference import Predictor
from engine.video.key_frames import KeyFrame, carry_key_frames, find_scenes
from engine.video.motion import Motion
from engine.video.steady import SteadyAlpha, SteadyProbability
from metrics.temporal import score_sequence
from modeling.weights.system_file import read_system
from runtime.command_line import run

MOTIONS = {
    "still": {"motion": 0, "turn": 0, "pan": 0},
    "slow": {"motion": 0.7, "turn": 0.2, "pan": 0.3},
    "fast": {"motion": 4, "turn": 1, "pan": 2},
}
WANDER = 1.5  # pixels, standard deviation of the edge's displacement
CELL = 8  # pixels, over which the displacement is smooth
SOFTNESS = 1.5  # pixels, of the logistic edge
BAND = 4.0  # pixels of the trimap's band beyond the sure probabilities

Matte = tuple[np.ndarray, np.ndarray, np.ndarray]  # alpha, its truth, its trimap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="200x260", help="HEIGHTxWIDTH (default: 200x260)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--families", nargs="+", default=["hair", "solid"])
    parser.add_argument(
        "--noise", type=float, default=0.02, help="of the sensor, as a fraction of white (default: .02)"
    )
    parser.add_argument("--key-frames", type=int, nargs="+", metavar="EVERY", help="carry a trimap of every Nth frame")
    options = parser.parse_args()
    size = tuple(int(side) for side in options.size.split("x"))

    def clips() -> Iterator[tuple[str, str, SyntheticClip]]:
        for name, motion in MOTIONS.items():
            for family in options.families:
                for seed in options.seeds:
                    yield name, family, SyntheticClip(size, options.frames, seed, family, noise=options.noise, **motion)

    if options.key_frames:
        report_key_frames(list(clips()), options.key_frames)
    else:
        report_steadiness(list(clips()), Predictor(read_system()))


def report_steadiness(clips: list[tuple[str, str, SyntheticClip]], predictor: Predictor) -> None:
    print(
        "| motion | object | dtSSD | steadied | SAD | steadied | flicker | steadied | ms a frame |\n"
        + "| --- " * 9
        + "|"
    )
    ratios: dict[str, list[np.ndarray]] = {}
    for name, family, clip in clips:
        plain, _ = mattes(clip, predictor, steady=False)
        steadied, seconds = mattes(clip, predictor, steady=True)
        band = np.any([trimap == UNKNOWN for _, _, trimap in plain + steadied], axis=0)
        before, after = measures(plain, band), measures(steadied, band)
        ratio = after / before
        ratios.setdefault(name, []).append(ratio)
        cells = [f"{b:.3f} | x {r:.2f}" for b, r in zip(before, ratio, strict=True)]
        print(f"| {name} | {family} | {' | '.join(cells)} | {1000 * seconds:.0f} |", flush=True)
    for name, rows in ratios.items():
        mean = np.exp(np.mean(np.log(rows), axis=0))
        print(f"| {name} | geometric mean | | x {mean[0]:.2f} | | x {mean[1]:.2f} | | x {mean[2]:.2f} | |")


def mattes(clip: SyntheticClip, predictor: Predictor, steady: bool) -> tuple[list[Matte], float]:
    """The clip's mattes, and the mean seconds a frame that steadiness took."""
    wander = np.random.default_rng((clip.seed, 2))
    motion, probabilities, alphas = Motion(), SteadyProbability(), SteadyAlpha()
    done, seconds = [], 0.0
    for frame in clip:
        probability = wandering_mask(frame.alpha, wander)
        if steady:
            start = time.perf_counter()
            moved = motion.step(frame.image)
            probability = probabilities.step(probability, moved)
            seconds += time.perf_counter() - start
        trimap = trimap_from_probability(probability, width=BAND)
        alpha = predictor.one({"image": frame.image, "trimap": trimap})["alpha"]
        if steady:
            start = time.perf_counter()
            alpha = alphas.matte(alpha, trimap, moved)
            seconds += time.perf_counter() - start
        done.append((alpha, frame.alpha, trimap))
    return done, seconds / len(clip)


def wandering_mask(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Probabilities (H, W) float32 of a segmentation whose edge is off by a smooth random field."""
    inside = (alpha >= 128).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance -= cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    height, width = alpha.shape
    field = rng.standard_normal((height // CELL + 1, width // CELL + 1)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    return (1 / (1 + np.exp(-(distance + WANDER * field) / SOFTNESS))).astype(np.float32)


def measures(frames: list[Matte], band: np.ndarray) -> np.ndarray:
    """dtSSD, SAD in thousands a frame, and flicker in thousandths."""
    steadiness = score_sequence((alpha, truth, None) for alpha, truth, _ in frames)["dtssd"]
    sad = np.mean([cv2.absdiff(alpha, truth).sum() for alpha, truth, _ in frames]) / 255 / 1000
    changes = [
        cv2.absdiff(alpha, next_alpha)[band & (truth == next_truth)]
        for (alpha, truth, _), (next_alpha, next_truth, _) in pairwise(frames)
    ]
    return np.array([steadiness, sad, 1000 * np.concatenate(changes).mean() / 255])


def report_key_frames(clips: list[tuple[str, str, SyntheticClip]], spacings: list[int]) -> None:
    print(
        "| motion | key frame every | soft inside | known wrongly (1e-6) | band | band of the truth's own |\n"
        + "| --- " * 6
        + "|"
    )
    for name in MOTIONS:
        for every in spacings:
            rows = [carried(clip, every) for motion, _, clip in clips if motion == name]
            soft, wrong, band, own = np.mean(rows, axis=0)
            print(f"| {name} | {every} | {soft:.4f} | {1e6 * wrong:.0f} | {band:.3f} | {own:.3f} |", flush=True)


def carried(clip: SyntheticClip, every: int) -> tuple[float, float, float, float]:
    """Shares: of soft pixels, the unknown; of all, those known wrongly by half, the unknown, the truth's unknown."""

    def trimap_of(frame: ClipFrame) -> np.ndarray:
        return trimap_from_mask(frame.alpha >= 128, width=BAND)

    frames = list(clip)
    keys = {
        index: KeyFrame.given(trimap_of(frame))
        for index, frame in enumerate(frames)
        if index % every == 0 or index == len(frames) - 1
    }
    rows = []
    images = [frame.image for frame in frames]
    for frame, trimap in zip(frames, carry_key_frames(images, keys, find_scenes(images)), strict=True):
        soft = (frame.alpha > 5) & (frame.alpha < 250)
        wrong = ((trimap == BACKGROUND) & (frame.alpha > 127)) | ((trimap == FOREGROUND) & (frame.alpha < 128))
        own = (trimap_of(frame) == UNKNOWN).mean()
        rows.append(((trimap == UNKNOWN)[soft].mean(), wrong.mean(), (trimap == UNKNOWN).mean(), own))
    return tuple(np.mean(rows, axis=0))


if __name__ == "__main__":
    run(main)
