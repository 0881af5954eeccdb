"""Benchmark of a training step of the frozen system and of ViTMatte-S on a CPU: time and peak memory.

    python tools/benchmark_frozen.py [--size 512] [--batch 2] [--repeats 3] [--steps 3] [--json FILE]

A step is forward, losses, backward and AdamW, in float32, on random tensors. With "features kept", features are read
from a tensor instead of computed by the encoder, as with `train.cache_features`. Every measurement is in a separate
process, the variants alternate, and one step is a warm-up. A time is the shortest of all steps of all processes, and
shares are of ViTMatte-S in the same run. Memory is the peak resident memory of the process, including libraries,
weights, gradients and AdamW's two moments. "above start" excludes the memory before the first step: libraries and
weights.

On a machine with other work, set OMP_NUM_THREADS=1 and compare processor time.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from engine.config import build, load_config
from engine.training.freezing import freeze
from runtime.files import replacing
from tools.benchmark_training import Measured, Step, our_step, random_samples, shortest, step_of, timed

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "ViTMatte-S"
KEPT = ", features kept"
VARIANTS = {
    REFERENCE: [],
    "frozen S, published decoder": ["FrozenDINOv3_S_published"],
    "frozen S": ["FrozenDINOv3_S"],
    "frozen S, decoder checkpointed": ["FrozenDINOv3_S", "model.decoder.use_act_checkpoint=True"],
    f"frozen S, published decoder{KEPT}": ["FrozenDINOv3_S_published"],
    f"frozen S{KEPT}": ["FrozenDINOv3_S"],
}
ROW = "{:<46} {:>8} {:>6} {:>8} {:>6} {:>8} {:>6} {:>12} {:>6}"


def main() -> None:
    options = parse_arguments()
    if options.measure:
        print(json.dumps(measure(options.measure, options.size, options.batch, options.steps)))
        return
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, {threads} threads, torch {torch.__version__}, float32, {options.batch} crops of "
          f"{options.size}")  # fmt: skip
    print(ROW.format("", "s/step", "share", "CPU s", "share", "peak GiB", "share", "above start", "share"))
    measured = take_turns(options)
    records = [summary(name, measured) for name in VARIANTS]
    for record in records:
        print(row(record))
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(records, indent=1))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of square crops")
    parser.add_argument("--batch", type=int, default=2, help="samples in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each variant")
    parser.add_argument("--steps", type=int, default=3, help="steps that a process times")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def take_turns(options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Measure every variant `repeats` times, A B C A B C."""
    measured: dict[str, list[Measured]] = {name: [] for name in VARIANTS}
    sizes = [f"--{name}={getattr(options, name)}" for name in ("size", "batch", "steps")]
    for _ in range(options.repeats):
        for name, results in measured.items():
            command = [sys.executable, __file__, *sizes, "--measure", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            results.append(json.loads(done.stdout))
    return measured


def summary(name: str, measured: dict[str, list[Measured]]) -> dict:
    """Figures of a variant, and their ratios to those of the reference."""

    def figures(results: list[Measured]) -> dict[str, float]:
        peak = max(each["peak_gib"] for each in results)
        return {
            "seconds": shortest(results, "seconds"),
            "cpu_seconds": shortest(results, "cpu_seconds"),
            "peak_gib": peak,
            "above_start_gib": max(each["peak_gib"] - each["start_gib"] for each in results),
        }

    ours, reference = figures(measured[name]), figures(measured[REFERENCE])
    shares = {f"{key}_share": value / reference[key] for key, value in ours.items()}
    return {"variant": name, **ours, **shares, "turns": measured[name]}


def row(record: dict) -> str:
    cells = [
        text
        for key in ("seconds", "cpu_seconds", "peak_gib", "above_start_gib")
        for text in (f"{record[key]:.2f}", f"{record[f'{key}_share']:.0%}")
    ]
    return ROW.format(record["variant"], *cells)


def measure(name: str, size: int, batch: int, steps: int) -> Measured:
    """Wall clock and processor seconds of every step, and GiB at the peak and before the first step."""
    torch.manual_seed(0)
    samples = random_samples(batch, size)
    step = our_step() if name == REFERENCE else frozen_step(name, samples)
    return timed(step, samples, steps)


def frozen_step(name: str, samples: dict[str, torch.Tensor]) -> Step:
    """A step of a variant. If its features are kept, they are added to `samples`."""
    config, *overrides = VARIANTS[name]
    model = build(load_config(str(ROOT / "configs" / f"{config}.py"), overrides).model)
    freeze(model, ["backbone"])
    if name.endswith(KEPT):
        rows = -(-samples["image"].shape[-2] // model.backbone.patch_size)
        channels = len(model.out_blocks) * model.backbone.embed_dim
        samples["features"] = torch.randn(len(samples["image"]), channels, rows, rows).half()
    return step_of(model)


if __name__ == "__main__":
    main()
