"""Training of every system at demo size on the same data, for the comparison of tools/benchmark_real.py.

    python tools/train_systems.py [--output-dir output/systems] [--samples 8000] [--only NAME ...] [--seed 0]

Every system starts from random weights and is trained on the same number of procedural samples of 96 x 96 pixels from
the same generator, with the batch size and the optimizer of its own demo config. Systems with a trimap see details of
scenes. The systems without one see whole scenes, since a detail does not show what the subject is. The processor time
of each training is printed, because it differs.

Each training is a command that a user would type, and is printed before it runs. A stopped training is resumed, a
complete one is not repeated.
"""

import argparse
import resource
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime.command_line import run
from runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
SAMPLES, SIDE = 8000, 96


class Stage(NamedTuple):
    """A part of a training.

    Attributes:
        config: name of the config.
        batch: its batch size.
        share: share of the system's samples.
        overrides: further settings; `{iterations}` and its shares `{40%}` and `{60%}` are replaced by numbers.
    """

    config: str
    batch: int = 16
    share: float = 1.0
    overrides: Sequence[str] = ()

    def iterations(self, samples: int) -> int:
        return max(1, round(samples * self.share / self.batch))

    def settings(self, samples: int) -> list[str]:
        """The stage's own overrides of main.py."""
        iterations = self.iterations(samples)
        places = {"{40%}": iterations * 2 // 5, "{60%}": iterations * 3 // 5}
        texts = list(self.overrides)
        for place, number in places.items():
            texts = [text.replace(place, str(number)) for text in texts]
        return [f"train.max_iter={iterations}", *texts]


# DINOv3's LayerScale starts at 1e-5 and has grown to about 0.1 in the published weights, which these runs lack.
SCALED = "model.backbone.layer_scale_init=0.1"
PLAIN_INPUT = ("model.colour_prior=null", "model.decoder.img_chans=4")  # RGB and trimap, like the published ViTMatte
TRAININGS = {
    "vitmatte_dinov3": [Stage("ViTMatte_demo", overrides=(SCALED, *PLAIN_INPUT))],
    "vitmatte_original": [Stage("ViTMatte_original_demo", overrides=PLAIN_INPUT)],
    "diffmatte": [
        Stage(
            "DiffMatte_demo",
            overrides=(SCALED, "train.self_align_stage1_step={40%}", "train.self_align_stage2_step={60%}"),
        )
    ],
    "frozen_dinov3": [Stage("FrozenDINOv3_demo", overrides=(SCALED,))],
    "dim": [
        Stage(f"DIM_demo_stage{number}", batch=4, share=share, overrides=(f"dataloader.train.dataset.size={SIDE}",))
        for number, share in ((1, 0.72), (2, 0.04), (3, 0.24))  # as in the configs
    ],
    "segmentation": [Stage("SubjectSeg_demo", batch=8)],
}


def main() -> None:
    options = parse_arguments()
    for name in options.only or TRAININGS:
        before = None
        for index, stage in enumerate(TRAININGS[name]):
            last = index == len(TRAININGS[name]) - 1
            folder = options.output_dir / (name if last else f"{name}_{index + 1}")
            before = train(folder, stage, before, options)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output-dir", type=Path, default=Path("output/systems"), help="default: output/systems")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"samples for each system (default: {SAMPLES})")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of {', '.join(TRAININGS)}")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = parser.parse_args()
    for name in options.only or ():
        if name not in TRAININGS:
            raise InputError(f"--only: expected some of {', '.join(TRAININGS)}, got {name!r}")
    return options


def train(folder: Path, stage: Stage, before: Path | None, options: argparse.Namespace) -> Path:
    """Run one stage unless it is complete; return its checkpoint."""
    checkpoint = folder / "model_final.pth"
    if checkpoint.exists():
        print(f"{checkpoint}: complete, not trained again with these options; remove its folder to do so", flush=True)
        return checkpoint
    words = ["main.py", "--config-file", f"configs/{stage.config}.py", *overrides(folder, stage, before, options)]
    print(f"\n$ python {shlex.join(words)}", flush=True)
    started = processor_seconds()
    status = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
    if status:
        sys.exit(status)
    print(f"{folder.name}: {processor_seconds() - started:.0f} s of processor time", flush=True)
    return checkpoint


def overrides(folder: Path, stage: Stage, before: Path | None, options: argparse.Namespace) -> list[str]:
    """Arguments of main.py after the config."""
    return [
        "--resume",
        "train.device=cpu",
        f"train.seed={options.seed}",
        f"train.output_dir={folder.resolve()}",
        "train.eval_period=0",
        f"dataloader.train.batch_size={stage.batch}",
        "dataloader.train.num_workers=0",  # processor time then includes the samples
        *stage.settings(options.samples),
        *([] if before is None else [f"train.init_checkpoint={before.resolve()}"]),
    ]


def processor_seconds() -> float:
    """Processor time of the finished child processes of this one, all threads."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run(main)
