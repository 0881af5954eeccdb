"""Benchmark of a training step of ViT-S on a CPU, ours and the public DINOv3-ViTMatte: time and peak memory in one run.

    python tools/benchmark_training.py [--sizes 512] [--batches 1 2] [--repeats 3] [--steps 3] [--json FILE]

A step is forward, the four losses, backward and AdamW, in float32, on random tensors. Ours is the model of
configs/ViTMatte_S_100ep.py, without activation checkpointing, with it in the backbone, and with it in the decoder too.
The public network and its losses are restated (tests/references/public_model.py and public_losses.py). Every
measurement is in a separate process, the variants alternate, and one step is a warm-up. A time is the shortest of all
steps of all processes, and both ratios are theirs to ours. Memory is the peak resident memory of the process, including
libraries, weights, gradients and AdamW's two moments.

On a machine with other work, set OMP_NUM_THREADS=1 and compare processor time (user and system). Several threads wait
for each other, which costs time of both kinds.
"""

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # some packages install a `tests` too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from references.public_losses import public_losses
from references.public_model import PublicMatting
from torch import Tensor, nn

from engine.training.param_groups import param_groups
from modeling.backbone import DINOV3_PIXEL_STATISTICS
from runtime.files import replacing
from runtime.memory import peak_gib, resident_gib

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "configs" / "ViTMatte_S_100ep.py")
VARIANTS = {
    "public": None,
    "ours": {},
    "ours, backbone checkpointed": {"backbone": True},
    "ours, all checkpointed": {"backbone": True, "decoder": True},
}
Autocast = Callable[[], contextlib.AbstractContextManager]
Measured = dict[str, float | list[float]]  # figures of one process; those of its steps are lists
Step = Callable[[dict[str, Tensor]], Tensor]  # function that runs one step on a batch and returns its loss
ROW = "{:>5} {:>6}  {:<28} {:>7} {:>7} {:>7} {:>7}   {:>6} {:>7}"


def main() -> None:
    options = parse_arguments()
    if options.measure:
        print(json.dumps(measure(options.measure, options.sizes[0], options.batches[0], options.steps)))
        return
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32")
    print(ROW.format("side", "batch", "variant", "s/step", "speed", "CPU s", "speed", "GiB", "of pub."))
    records = []
    for size in options.sizes:
        for batch in options.batches:
            measured = take_turns(size, batch, options.repeats, options.steps)
            for name in VARIANTS:
                records.append(summary(name, measured, size, batch))
                print(row(records[-1]), flush=True)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(records, indent=1))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512], help="sides of square crops")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2], help="samples in a batch")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each variant")
    parser.add_argument("--steps", type=int, default=3, help="steps that a process times")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def take_turns(size: int, batch: int, repeats: int, steps: int) -> dict[str, list[Measured]]:
    """Measure every variant `repeats` times, A B C A B C."""
    measured: dict[str, list[Measured]] = {name: [] for name in VARIANTS}
    for _ in range(repeats):
        for name, results in measured.items():
            settings = ["--sizes", str(size), "--batches", str(batch), "--steps", str(steps), "--measure", name]
            done = subprocess.run([sys.executable, __file__, *settings], stdout=subprocess.PIPE, check=True, text=True)
            results.append(json.loads(done.stdout))
    return measured


def summary(name: str, measured: dict[str, list[Measured]], size: int, batch: int) -> dict:
    """Figures of a variant, and their ratios to those of the public network in the same turns."""
    ours, public = measured[name], measured["public"]
    peak, public_peak = (max(each["peak_gib"] for each in results) for results in (ours, public))
    return {
        "side": size,
        "batch": batch,
        "variant": name,
        "seconds": shortest(ours, "seconds"),
        "speed": shortest(public, "seconds") / shortest(ours, "seconds"),
        "cpu_seconds": shortest(ours, "cpu_seconds"),
        "cpu_speed": shortest(public, "cpu_seconds") / shortest(ours, "cpu_seconds"),
        "peak_gib": peak,
        "peak_share": peak / public_peak,
        "turns": ours,
    }


def shortest(results: list[Measured], name: str) -> float:
    return min(seconds for each in results for seconds in each[name])


def row(record: dict) -> str:
    return ROW.format(
        record["side"], record["batch"], record["variant"], f"{record['seconds']:.2f}", f"{record['speed']:.2f}",
        f"{record['cpu_seconds']:.2f}", f"{record['cpu_speed']:.2f}", f"{record['peak_gib']:.2f}",
        f"{record['peak_share']:.0%}",
    )  # fmt: skip


def measure(name: str, size: int, batch: int, steps: int) -> Measured:
    """Wall clock and processor seconds of every step, and GiB at the peak and before the first step."""
    torch.manual_seed(0)
    checkpointed = VARIANTS[name]
    step = public_step() if checkpointed is None else our_step(**checkpointed)
    return timed(step, random_samples(batch, size), steps)


def timed(step: Step, samples: dict[str, Tensor], steps: int) -> Measured:
    """Wall clock and processor seconds of every step after one to warm up, and GiB at the peak and before all steps."""
    start = resident_gib()
    step(samples)
    seconds, cpu_seconds = [], []
    for _ in range(steps):
        started, cpu_started = time.perf_counter(), time.process_time()
        step(samples)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gib": peak_gib(), "start_gib": start}


def random_samples(batch: int, size: int) -> dict[str, Tensor]:
    """A batch like that of a loader; a third of the pixels is unknown."""
    trimap = torch.randint(0, 3, (batch, 1, size, size)) / 2
    return {"image": torch.rand(batch, 3, size, size), "trimap": trimap, "alpha": torch.rand(batch, 1, size, size)}


def our_step(backbone: bool = False, decoder: bool = False) -> Step:
    from engine.config import build, load_config

    config = load_config(CONFIG, ["model.decoder.use_act_checkpoint=True"] if decoder else [])
    config.model.backbone.use_act_checkpoint = backbone
    return step_of(build(config.model))


def step_of(model: nn.Module, autocast: Autocast = contextlib.nullcontext) -> Step:
    """A step of this project's model; `autocast` makes the context of the forward pass."""
    model.train()
    optimizer = torch.optim.AdamW(param_groups(model, 5e-4, 0.1, layer_decay=0.65, head_lr_mult=3.0))

    def step(samples: dict[str, Tensor]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)  # before forward, as in engine/training/trainer.py
        with autocast():
            loss = sum(model(samples).values())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def public_step(device: torch.device | str = "cpu", autocast: Autocast = contextlib.nullcontext) -> Step:
    """A step of the public network, with random weights."""
    model = PublicMatting(384, 12, 6, windowed=[0, 1, 3, 4, 6, 7, 9, 10], residual=[2, 5, 8, 11]).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in DINOV3_PIXEL_STATISTICS["lvd1689m"])

    def step(samples: dict[str, Tensor]) -> Tensor:
        inputs = torch.cat([(samples["image"] - mean) / std, samples["trimap"]], dim=1)
        with autocast():
            losses = public_losses(model(inputs), samples["alpha"], samples["trimap"])
        optimizer.zero_grad(set_to_none=True)  # after forward, as in detectron2's trainers
        loss = sum(losses.values())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


if __name__ == "__main__":
    main()
