"""Study of the model in the box with one thing changed at a time (data, priors, gate), at a size for CPUs.

    python tools/collect_backgrounds.py --packages unpacked --textures 24 --output output/box_study/data/bg
    python tools/box_study.py [--output-dir output/box_study] [--only NAME ...] [--seeds 0 1 2] [--jobs 2] [--list]

Every run trains a narrow network of configs/ViTMatte_box.py from random weights, with the same number of foregrounds,
and is scored on composites of drawn (2D) and of rendered (3D) objects with other seeds. The first run renders them
(requirements/render.txt). Complete runs with the same settings are not repeated (tools/study.py).
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.files import images_by_stem
from runtime.command_line import run
from runtime.errors import InputError
from tools.study import Change, Study

ROOT = Path(__file__).resolve().parents[1]
FOREGROUNDS, VALIDATION, SIDE = 240, 24, 384  # foregrounds and validation objects of each kind; side in pixels
KINDS = {"2d": (1, 1_000_004), "3d": (0, 1_000_003)}  # seeds of training and of validation objects
ITERATIONS, CROP, BATCH = 200, 160, 8

SMALL = [
    "model.backbone.embed_dim=128",
    "model.backbone.depth=4",
    "model.backbone.window_block_indexes=[0,2]",
    "model.backbone.residual_block_indexes=[1,3]",
    "model.backbone.merge_block_indexes=[1]",
    "model.decoder.convstream_out=[24,48,64]",
    "model.decoder.fusion_out=[96,48,32,16]",
    "model.decoder.head_chans=16",
    f"dataloader.train.dataset.crop_size={CROP}",
    f"dataloader.train.batch_size={BATCH}",
    "dataloader.train.num_workers=0",
    "dataloader.train.late_start=null",
    "dataloader.train.late_crop_size=null",
    "dataloader.train.late_batch_size=null",
    f"dataloader.test.dataset.samples_per_epoch={2 * VALIDATION}",
    "dataloader.test.dataset.crop_size=256",
    f"train.max_iter={ITERATIONS}",
    "train.ema_decay=0.98",
    "train.eval_period=0",
    "train.amp.enabled=False",
]

COLOUR_PRIOR = "{_target_:modeling.priors.colour_prior.ColourPrior,sigmas:[4,12,36]}"
CLOSED_FORM = "{_target_:modeling.priors.closed_form_prior.ClosedFormPrior,scale:2}"
PLAIN_LOOK = [
    f"dataloader.train.dataset.realism.{name}_prob=0"
    for name in ("blur", "hue", "resemblance", "spill", "tone", "noise", "sharpening", "jpeg")
]


def _train_on(kind: str) -> tuple[str, ...]:
    return tuple(f"dataloader.train.dataset.{part}_dir={{folder}}/data/{kind}/{part}" for part in ("fg", "alpha"))


def _score_on(kind: str) -> tuple[str, ...]:
    return tuple(f"dataloader.test.dataset.{part}_dir={{folder}}/data/{kind}/{part}" for part in ("fg", "alpha"))


CHANGES = {
    "both": Change("rendered and drawn foregrounds, half each", ()),
    "2d": Change("drawn foregrounds (2D) only", _train_on("2d")),
    "3d": Change("rendered foregrounds (3D) only", _train_on("3d")),
    "no_gate": Change("priors as channels, no gate", ("model.decoder.candidates=[]",)),
    "no_closed_form": Change(
        "no closed-form alpha",
        (
            f"model.colour_prior.priors=[{COLOUR_PRIOR}]",
            "model.colour_prior.drop_probs=[0.0]",
            "model.decoder.img_chans=16",
            "model.decoder.candidates=[13]",
        ),
    ),
    "no_colour_prior": Change(
        "no colour prior",
        (
            f"model.colour_prior.priors=[{CLOSED_FORM}]",
            "model.colour_prior.drop_probs=[0.15]",
            "model.decoder.img_chans=7",
            "model.decoder.candidates=[4]",
        ),
    ),
    "no_priors": Change(
        "neither prior", ("model.colour_prior=null", "model.decoder.img_chans=4", "model.decoder.candidates=[]")
    ),
    "narrow_trimaps": Change(
        "trimap widths up to 8 pixels instead of 40", ("dataloader.train.dataset.realism.trimap_width=[0.5,8.0]",)
    ),
    "plain_look": Change("no blur, spill, noise, JPEG or other change of the look", tuple(PLAIN_LOOK)),
}
STUDY = Study(
    "configs/ViTMatte_box.py",
    CHANGES,
    baseline="both",
    settings=(
        *SMALL,
        "dataloader.train.dataset.bg_dir={folder}/data/bg",
        "dataloader.test.dataset.bg_dir={folder}/data/bg",
        *_train_on("both"),
    ),
    held_out={"2D": _score_on("validation_2d"), "3D": _score_on("validation_3d")},
)


def prepare(folder: Path) -> None:
    """Render the missing foregrounds, and collect half of each kind in a separate folder."""
    data = folder / "data"
    if not (data / "bg").is_dir():
        raise InputError(
            f"{data / 'bg'}: expected backgrounds, found no folder; run tools/collect_backgrounds.py first"
        )
    for kind, (seed, held_out) in KINDS.items():
        _render(data / kind, kind, FOREGROUNDS, seed)
        _render(data / f"validation_{kind}", kind, VALIDATION, held_out)
    for part in ("fg", "alpha"):
        (data / "both" / part).mkdir(parents=True, exist_ok=True)
        for kind in KINDS:
            for path in list(images_by_stem(data / kind / part).values())[:: len(KINDS)]:
                link = data / "both" / part / path.name
                if not link.exists():
                    link.symlink_to(path.resolve())


def _render(folder: Path, kind: str, count: int, seed: int) -> None:
    command = [sys.executable, str(ROOT / "tools" / "render_foregrounds.py"), "--families", kind, "--count", str(count)]
    subprocess.run([*command, "--seed", str(seed), "--size", str(SIDE), "--output", str(folder)], check=True)


if __name__ == "__main__":
    run(lambda: STUDY.main(__doc__, "output/box_study", prepare))
