"""Benchmark of the metrics on 1920 x 1080 images, 35 % unknown: one image on one core, and a folder of files.

    python tools/benchmark_metrics.py [--repeats 9] [--folder 96]

The same run computes the same metrics with MMagic's published algorithm on the same images. It is written from
docs/metrics.md, with the reference's thresholds so that the scores can be compared.
"""

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metrics import METRICS, PAPER_METRICS, score_image
from metrics.pair import matte_pair

ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, UNKNOWN_SHARE = 1080, 1920, 0.35
BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255


def main() -> None:
    """Print the times, the agreement of the scores, and the machine."""
    parser = argparse.ArgumentParser(description="Time the metrics on full-HD mattes.")
    parser.add_argument("--repeats", type=int, default=9, help="number of runs for the median (default: 9)")
    parser.add_argument("--folder", type=int, default=96, help="images in the folder (default: 96)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{machine()}\nPython {platform.python_version()}, numpy {np.__version__}, OpenCV {cv2.__version__}")
    time_one_image(options.repeats)
    time_a_folder(options.folder)


def time_one_image(repeats: int) -> None:
    """Print the time of each metric, of the four of published tables, and of MMagic's algorithm for these four."""
    worst = 0.0
    for name, make in {"hair": hair_matte, "noise": noise_matte}.items():
        images = make(np.random.default_rng(0))
        share = (images[2] == UNKNOWN).mean()
        fast, scores = median_seconds(lambda images=images: score_image(*images), repeats)
        slow, slow_scores = median_seconds(lambda images=images: score_plainly(*images), max(repeats // 3, 1))
        print(f"\n{name}: {WIDTH} x {HEIGHT}, {share:.1%} unknown, one core, median of {repeats}")
        pair = matte_pair(*images)
        for metric, (function, *_) in METRICS.items():
            seconds, _ = median_seconds(lambda function=function, pair=pair: function(pair), repeats)
            print(f"  {metric:20}{seconds * 1e3:9.1f} ms")
        print(f"  sad, mse, grad, conn{fast * 1e3:9.1f} ms")
        print(f"  MMagic's algorithm  {slow * 1e3:9.1f} ms   ratio {slow / fast:.1f}")
        worst = max(worst, *(relative(scores[metric], slow_scores[metric]) for metric in PAPER_METRICS))
    print(f"\nlargest relative difference between the two: {worst:.1e}")


def time_a_folder(count: int) -> None:
    """Print images per second for whole folders of files by number of processes, and the memory."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), count)
        print(f"\na folder of {count} such images (hair), PNG files, page cache warm")
        single = None
        for workers in (1, 2, 4)[: max(1, (os.cpu_count() or 1).bit_length())]:
            seconds, memory = evaluate_in_a_process(folder, workers)
            single = single or seconds
            print(
                f"  {workers} process{'es' if workers > 1 else '  '}  {count / seconds:6.1f} images/s   "
                f"{single / seconds:.2f} of one" + (f"   peak memory {memory:.0f} MiB" if workers == 1 else "")
            )


def write_folder(folder: Path, count: int) -> None:
    """Write `count` images as pred, alpha and trimap PNGs; links to four different ones."""
    for kind in ("pred", "alpha", "trimap"):
        (folder / kind).mkdir()
    for number in range(4):
        images = hair_matte(np.random.default_rng(number))
        for kind, image in zip(("pred", "alpha", "trimap"), images, strict=True):
            cv2.imwrite(str(folder / kind / f"{number:05}.png"), image)
            for copy in range(number + 4, count, 4):
                os.link(folder / kind / f"{number:05}.png", folder / kind / f"{copy:05}.png")


def evaluate_in_a_process(folder: str, workers: int) -> tuple[float, float]:
    """Seconds for scoring the folder, including imports and the start of workers, and MiB at the peak.

    The peak is that of the started process (on Linux); with one worker it is that of every worker.
    """
    script = (
        "import sys; from metrics import score_folders; from runtime.memory import peak_gib; f = sys.argv[1]; "
        "result = score_folders(f + '/pred', f + '/alpha', f + '/trimap', num_workers=int(sys.argv[2])); "
        "assert not result.failed; "
        "print(peak_gib())"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, folder, str(workers)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, float(done.stdout) * 2**10


def median_seconds(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median wall clock time of a call after a warm-up, and its result."""
    result = function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def relative(one: float, other: float) -> float:
    """|one - other| as a fraction of the other."""
    return abs(one - other) / max(abs(other), 1e-30)


def machine() -> str:
    """Name of the processor, if the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.system()}"


# ---- the images


def hair_matte(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a solid body with strands around it, a blurred and noisy prediction, and a trimap.

    Returns:
        (1080, 1920) uint8 pred_alpha, alpha and trimap, the prediction clamped to the trimap's known regions.
    """
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    centre, radii = np.array([WIDTH / 2, HEIGHT / 2]), np.array([WIDTH * 0.2, HEIGHT * 0.3])
    cv2.ellipse(alpha, (WIDTH // 2, HEIGHT // 2), (int(radii[0]), int(radii[1])), 0, 0, 360, 255, -1, cv2.LINE_AA)
    along = np.linspace(0, 1, 24)[:, None]
    for _ in range(2500):
        root, tip = generator.uniform(0, 2 * np.pi) + np.array([0, generator.normal(0, 0.1)])
        start = centre + 0.97 * radii * [math.cos(root), math.sin(root)]
        end = centre + generator.uniform(1, 1.75) * radii * [math.cos(tip), math.sin(tip)]
        bend = (start + end) / 2 + generator.normal(0, 25, 2)
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end
        opacity = int(generator.integers(60, 256))
        cv2.polylines(alpha, [np.rint(curve * 16).astype(np.int32)], False, opacity, 1, cv2.LINE_AA, 4)
    alpha = cv2.max(alpha, cv2.GaussianBlur(alpha, (0, 0), 1))
    noise = cv2.GaussianBlur(generator.normal(size=alpha.shape).astype(np.float32), (0, 0), 2) * 80
    pred_alpha = np.clip(np.rint(cv2.GaussianBlur(alpha, (0, 0), 1.5) + noise), 0, 255).astype(np.uint8)

    solid = ((alpha == BACKGROUND) | (alpha == FOREGROUND)).astype(np.uint8)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 5)  # 0 where alpha is fractional
    unknown = distance <= np.quantile(distance, UNKNOWN_SHARE)
    trimap = np.where(unknown, UNKNOWN, alpha).astype(np.uint8)
    return np.where(unknown, pred_alpha, trimap), alpha, trimap


def noise_matte(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a hard case for Conn: smooth noise with thousands of components at each threshold and no dominant one."""
    noise = generator.normal(size=(HEIGHT, WIDTH)).astype(np.float32)
    alpha = np.clip(cv2.GaussianBlur(noise, (0, 0), 1.5) * 500 + 80, 0, 255).astype(np.uint8)
    pred_alpha = np.clip(alpha + generator.integers(-9, 10, alpha.shape), 0, 255).astype(np.uint8)
    trimap = np.where(generator.random(alpha.shape) < UNKNOWN_SHARE, UNKNOWN, FOREGROUND).astype(np.uint8)
    return pred_alpha, alpha, trimap


# ---- the same metrics, plainly


def score_plainly(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray) -> dict[str, float]:
    """Score as MMagic does: whole images in float64, dense kernels, labelling at every threshold."""
    unknown = trimap == UNKNOWN
    p, a = pred_alpha / 255.0, alpha / 255.0
    return {
        "sad": np.abs(p - a)[unknown].sum() / 1000,
        "mse": ((p - a) ** 2)[unknown].sum() / unknown.sum(),
        "grad": ((plain_edges(p) - plain_edges(a)) ** 2)[unknown].sum() / 1000,
        "conn": plain_connectivity_errors(p, a)[unknown].sum() / 1000,
    }


def plain_edges(image: np.ndarray) -> np.ndarray:
    """Gradient magnitude, (H, W) float64, by 9 x 9 kernels over the min-max normalised image."""
    image = (image - image.min()) / (image.max() - image.min())
    t = np.arange(-4, 5)
    gaussian = np.exp(-(t**2) / (2 * 1.4**2))
    kernel = np.outer(gaussian, -t * gaussian)
    kernel /= np.sqrt((kernel**2).sum())
    across = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(image, -1, kernel.T, borderType=cv2.BORDER_REPLICATE)
    return np.sqrt(across**2 + down**2)


def plain_connectivity_errors(p: np.ndarray, a: np.ndarray) -> np.ndarray:
    """|phi(p) - phi(a)|, (H, W) float64, with the largest component labelled at each of ten thresholds."""
    levels = np.full(p.shape, -1.0)
    for i in range(1, 11):
        both = ((p >= i / 10) & (a >= i / 10)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        largest = labels == (1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]) if count > 1 else -1)
        levels[(levels == -1) & ~largest] = (i - 1) / 10
    levels[levels == -1] = 1
    phi_p, phi_a = (1 - gap * (gap >= 0.15) for gap in (p - levels, a - levels))
    return np.abs(phi_p - phi_a)


if __name__ == "__main__":
    main()
