"""Benchmark of mattes of clips: their steadiness, trimaps carried from key frames, and the speed of the whole chain.

    python tools/benchmark_video.py [--frames 16] [--size 200x260] [--seeds 3 5] [--families hair solid]
    python tools/benchmark_video.py --key-frames 1 4 8 16 --frames 17
    python tools/benchmark_video.py --chain DIR --size 1080x1920 --share .4 --frames 250 --rate 25 --families solid

The clips are procedural, with sensor noise and the exact alpha of each frame. In place of a segmentation network there
is the true mask, whose edge is displaced by a smooth random field that is drawn for each frame. The trimap is made from
this mask, and the model in the box predicts the matte. The left columns are frame by frame (AutoMatte), and the right
columns use the neighbouring frames (ClipMatte).

With --chain, a clip (slow motion, the first seed and family) is written to DIR as a video. It is then read, matted and
written as numbered frames, as tools/auto_matte.py does. The tool prints speeds, the time of each part, and memory over
time. In this case the left columns are alpha before steadying, in the same trimaps.

dtSSD is over the whole picture, and SAD is in thousands per frame. Flicker is the mean change of alpha from frame to
frame where the truth does not change, in thousandths, over the pixels that are unknown in any frame. A ratio below 1
means that the clip is steadier.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from data.images.files import write_png
from data.images.mask_to_trimap import SEGMENTATION, trimap_from_mask
from data.images.mattes import read_gray_exact
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.synthetic.clips import ClipFrame, SyntheticClip
from data.video.library import import_av
from engine.inference import Predictor, fit_to, plan_files, predict_clip
from engine.inference.auto_matte import AutoMatte
from engine.inference.clip_matte import ClipMatte
from engine.inference.clips import WARM_UP, looking_ahead
from engine.inference.predict import Arrays
from engine.inference.stopwatch import Stopwatch
from engine.inference.subjects import Subject
from engine.video.key_frames import KeyFrame, carry_key_frames, find_scenes
from metrics.temporal import dtssd
from modeling.weights.system_file import read_system
from runtime.command_line import run
from runtime.memory import keep_freed_memory, resident_gib

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", default="200x260", help="HEIGHTxWIDTH (default: 200x260)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--families", nargs="+", default=["hair", "solid"])
    parser.add_argument("--noise", type=float, default=0.02, help="sensor noise as a fraction of white (default: .02)")
    parser.add_argument("--key-frames", type=int, nargs="+", metavar="EVERY", help="carry a trimap of every Nth frame")
    parser.add_argument("--seg-every", type=int, default=1, metavar="N", help="segment every Nth frame of the clip")
    parser.add_argument("--share", type=float, default=1.0, help="size of the object as a share of the picture's sides")
    parser.add_argument(
        "--chain", type=Path, metavar="DIR", help="time a whole clip, from file to files, in this new folder"
    )
    parser.add_argument("--rate", type=int, default=25, help="frames per second of that clip (default: 25)")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    size = tuple(int(side) for side in options.size.split("x"))

    def clips() -> Iterator[tuple[str, str, SyntheticClip]]:
        for name, motion in MOTIONS.items():
            for family in options.families:
                for seed in options.seeds:
                    settings = {**motion, "noise": options.noise, "share": options.share}
                    yield name, family, SyntheticClip(size, options.frames, seed, family, **settings)

    if options.chain:
        clip = next(clip for name, _, clip in clips() if name == "slow")
        return report_chain(clip, Predictor(read_system()), options.chain, options.rate)
    if options.key_frames:
        report_key_frames(list(clips()), options.key_frames)
    else:
        report_steadiness(list(clips()), Predictor(read_system()), options.seg_every)
    return 0


def report_steadiness(clips: list[tuple[str, str, SyntheticClip]], predictor: Predictor, segment_every: int) -> None:
    print(
        "| motion | object | dtSSD | steadied | SAD | steadied | flicker | steadied | s per frame | steadying |\n"
        + "| --- " * 10
        + "|"
    )
    ratios: dict[str, list[np.ndarray]] = {}
    for name, family, clip in clips:
        plain, _ = mattes(clip, predictor, AutoMatte)
        steadied, watch = mattes(clip, predictor, partial(ClipMatte, segment_every=segment_every))
        band = np.any([trimap == UNKNOWN for _, _, trimap in plain + steadied], axis=0)
        before, after = measures(plain, band), measures(steadied, band)
        ratio = after / before
        ratios.setdefault(name, []).append(ratio)
        cells = [f"{b:.3f} | x {r:.2f}" for b, r in zip(before, ratio, strict=True)]
        parts = {part: median for part, (median, _) in watch.summary(WARM_UP, ClipMatte.look_ahead).items()}
        steadying = parts.get("motion", 0.0) + parts.get("steadying", 0.0)  # of a clip too short, nothing is left
        print(f"| {name} | {family} | {' | '.join(cells)} | {sum(parts.values()):.3f} | {steadying:.3f} |", flush=True)
    for name, rows in ratios.items():
        mean, most = np.exp(np.mean(np.log(rows), axis=0)), np.max(rows, axis=0)
        cells = [f" | x {m:.2f} (at most {x:.2f})" for m, x in zip(mean, most, strict=True)]
        print(f"| {name} | geometric mean |{' |'.join(cells)} | | |")


def mattes(
    clip: SyntheticClip, predictor: Predictor, chain_of: Callable[..., AutoMatte]
) -> tuple[list[Matte], Stopwatch]:
    """The clip's mattes by the chain, frame by frame or of a clip, and the time of its parts."""
    chain = chain_of(WanderingSubject(clip), predictor, BAND)
    samples = [{"image": frame.image, "number": number} for number, frame in enumerate(clip)]
    done = []
    for sample, following in looking_ahead(samples, chain.look_ahead):
        result = chain.one({**sample, "following": following})
        done.append((result["alpha"], clip[sample["number"]].alpha, result["trimap"]))
    return done, chain.watch


class WanderingSubject:
    """A segmentation that returns the true mask with a displaced edge; see `wandering_mask`."""

    def __init__(self, clip: SyntheticClip) -> None:
        self.clip = clip

    def __call__(self, sample: Mapping[str, Any]) -> Subject:
        number = sample["number"]
        rng = np.random.default_rng((self.clip.seed, number, 2))
        probability = wandering_mask(self.clip[number].alpha, rng)
        return Subject(probability, 1.0, is_sharp=False, cleaning=SEGMENTATION)


def wandering_mask(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Probabilities (H, W) float32 of a segmentation whose edge is off by a smooth random field."""
    inside = (alpha >= 128).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance -= cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    height, width = alpha.shape
    field = rng.standard_normal((height // CELL + 1, width // CELL + 1)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    return 0.5 + 0.5 * np.tanh((distance + WANDER * field) / (2 * SOFTNESS))  # the logistic function


def report_chain(clip: SyntheticClip, predictor: Predictor, folder: Path, rate: int) -> int:
    """Matte a clip from file to files; returns the exit status."""
    folder.mkdir(parents=True)
    write_clip(clip, folder / "clip.mp4", folder / "truth", rate)
    chain = Recorded(WanderingSubject(clip), predictor, BAND, folder=folder / "unsteadied")
    jobs = plan_files(str(folder / "clip.mp4"), None, str(folder / "alpha" / "%06d.png"))
    (job,) = fit_to(jobs, chain, ["alpha", "trimap"])
    status = predict_clip(chain, job, settings={}, watch=chain.watch)
    print("resident GiB after each tenth:", " ".join(f"{chain.memory[i]:.2f}" for i in tenths(len(chain.memory))))
    names = sorted(path.name for path in (folder / "truth").iterdir())
    trimaps = [read_gray_exact(folder / "alpha_trimap" / name) for name in names]
    band = np.any([trimap == UNKNOWN for trimap in trimaps], axis=0)
    print("| alpha | dtSSD | SAD | flicker |\n" + "| --- " * 4 + "|")
    rows = []
    for name, kind in (("unsteadied", "before it is steadied"), ("alpha", "steadied")):
        frames = [
            tuple(read_gray_exact(folder / part / file) for part in (name, "truth", "alpha_trimap")) for file in names
        ]
        rows.append(measures(frames, band))
        print(f"| {kind} | {' | '.join(f'{value:.3f}' for value in rows[-1])} |")
    print(f"| ratio | {' | '.join(f'x {ratio:.2f}' for ratio in rows[1] / rows[0])} |")
    return status


def tenths(count: int) -> list[int]:
    """Indices of ten of `count` items, evenly spaced and including the last; of all items if there are fewer."""
    return sorted({max(0, round(count * part / 10) - 1) for part in range(1, 11)}) if count else []


class Recorded(ClipMatte):
    """A `ClipMatte` that writes each alpha before it is steadied, and records the memory use after each frame.

    Args:
        folder: folder for the alphas, which are numbered from 1.
    """

    def __init__(self, *arguments: Any, folder: Path, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.folder, self.alphas, self.memory = folder, 0, []

    def alpha_of(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        alpha = super().alpha_of(image, trimap)
        self.alphas += 1
        write_png(self.folder / f"{self.alphas:06d}.png", alpha)
        return alpha

    def __call__(self, *arguments: Any) -> list[Arrays]:
        results = super().__call__(*arguments)
        self.memory.append(resident_gib() or 0.0)
        return results


def write_clip(clip: SyntheticClip, path: Path, truths: Path, rate: int) -> None:
    """Encode a clip as H.264, and write its true alphas as numbered PNG files."""
    av = import_av()
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"crf": "10", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *clip.size, "yuv420p"
        for number, frame in enumerate(clip, start=1):
            write_png(truths / f"{number:06d}.png", frame.alpha)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        output.mux(stream.encode(None))


def measures(frames: list[Matte], band: np.ndarray) -> np.ndarray:
    """dtSSD, SAD in thousands per frame, and flicker in thousandths."""
    steadiness = np.mean([dtssd((a, next_a), (t, next_t)) for (a, t, _), (next_a, next_t, _) in pairwise(frames)])
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
    """Quality of carried trimaps, as means over the frames.

    Returns:
        The share of soft pixels that are unknown; and the shares of all pixels that are known but wrong by more than
        half, that are unknown, and that are unknown in a trimap made from the truth.
    """

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
