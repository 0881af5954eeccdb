"""Study of the published recipe with one thing changed at a time, at a size for CPUs, with a table of the effects.

    python tools/ablation.py --output-dir output/ablation [--only NAME ...] [--seeds 0 1 2] [--jobs 2] [--list]

Every run trains configs/ablation_published.py with the same procedural images, seeds and number of iterations, and is
scored on the same held-out images. Complete runs with the same settings are not repeated (tools/study.py).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import Tensor

from data.synthetic import write_composition1k_layout, write_dim_layout
from modeling.criterion import MattingCriterion
from runtime.command_line import run
from runtime.errors import InputError
from tools.study import Change, Study

BASELINE = "published"
FOREGROUNDS, BACKGROUNDS, TRAIN_SIZE = 100, 600, 192
TEST_IMAGES, TEST_SIZE = 32, 160

COSINE = [
    "lr_multiplier.scheduler=null",
    "lr_multiplier.scheduler={_target_:fvcore.common.param_scheduler.CosineParamScheduler,start_value:1.0,end_value:0.01}",
]
LATE_CROP = [
    "dataloader.train.late_start=320",
    "dataloader.train.late_crop_size=128",
    "dataloader.train.late_batch_size=3",  # the same number of pixels in an iteration
]


class PublishedScaleCriterion(MattingCriterion):
    """Losses whose scale is right for one crop size only, as published: masked sums divided by a fixed number of
    pixels.

    Args:
        crop_size: side of the crop for which the constant in the code was chosen; 512 in hustvl/ViTMatte.
    """

    def __init__(self, losses: list[str], crop_size: int) -> None:
        super().__init__(losses)
        self.crop_size = crop_size

    def forward(self, pred_alpha: Tensor, alpha: Tensor, trimap: Tensor, *args: object) -> dict[str, Tensor]:
        losses = super().forward(pred_alpha, alpha, trimap, *args)
        scale = self.crop_size**2 / trimap[0].numel()
        return {name: loss if name == "loss_pha_laplacian" else scale * loss for name, loss in losses.items()}


def _change(title: str, *overrides: str) -> Change:
    return Change(title, overrides)


CHANGES = {
    BASELINE: _change("the published recipe"),
    "registers": _change(
        "CLS and 4 register tokens kept", "model.backbone.use_cls_token=True", "model.backbone.num_register_tokens=4"
    ),
    "window_rope": _change(
        "image coordinates in windows (published: restarted in each window)", "model.backbone.rope_in_windows=image"
    ),
    "masked_windows": _change(
        "incomplete windows stay smaller (published: padded)", "model.backbone.window_padding=masked"
    ),
    "rope_rescale": _change("coordinates rescaled by up to 2 in training", "model.backbone.rope_rescale=2.0"),
    "rope_step": _change("coordinates with a fixed step", "model.backbone.rope_coordinates=step"),
    "pairing": _change("foregrounds and backgrounds paired at random", "dataloader.train.dataset.pairing=random"),
    "fused_loss": _change("losses on the prediction fused with the trimap", "model.criterion.fuse_trimap=True"),
    "one_hot": _change(
        "one-hot trimap", "model.trimap_input=one_hot", "model.backbone.in_chans=6", "model.decoder.img_chans=6"
    ),
    "native_trimap": _change(
        "trimaps made at the foreground's size",
        "dataloader.train.dataset.trimap_size=null",
        "dataloader.train.dataset.trimap_erosion=[1,10]",
    ),
    "late_crop": _change("crops of twice the side in the last fifth, with as many pixels per batch", *LATE_CROP),
    "late_crop_published_scale": _change(
        "the same, with losses divided by the pixels of the early crops",
        *LATE_CROP,
        "model.criterion._target_=tools.ablation.PublishedScaleCriterion",
        "+model.criterion.crop_size=64",
    ),
    "ema": _change("averaged weights", "train.ema_decay=0.98"),
    "frozen_norm": _change("BatchNorm frozen in the last tenth", "train.freeze_batch_norm=0.1"),
    "clip": _change("gradients clipped to norm 1", "train.clip_grad_norm=1.0"),
    "head_lr_1": _change("head at the base rate (published: 3)", "optimizer.params.head_lr_mult=1.0"),
    "head_lr_6": _change("head at 6 times the base rate", "optimizer.params.head_lr_mult=6.0"),
    "cosine": _change("cosine schedule", *COSINE),
    "muon": _change(
        "Muon for the new layers",
        "optimizer._target_=engine.training.muon.MuonAdamW",
        "optimizer.params.muon_for_new=True",
    ),
    "multi_layer": _change("features of all blocks in the decoder", "model.backbone.merge_block_indexes=[0,1,2]"),
    "colour_prior": _change(
        "colour propagation channels",
        "model.colour_prior={_target_:modeling.priors.colour_prior.ColourPrior}",
        "model.decoder.img_chans=16",
    ),
}


def _together(title: str, *names: str) -> Change:
    return Change(title, tuple(override for name in names for override in CHANGES[name].overrides))


# The changes that helped, with windows as in every DINOv3 config of the project.
HELPFUL = ("registers", "window_rope", "masked_windows", "multi_layer", "muon", "colour_prior")
CHANGES |= {
    "together": _together("all changes that helped", *HELPFUL),
    "together_without_prior": _together("the same without colour propagation", *HELPFUL[:-1]),
    "together_cosine_ema": _together(
        "all changes that helped, with a cosine schedule and averaged weights", *HELPFUL, "cosine", "ema"
    ),
}


STUDY = Study(
    "configs/ablation_published.py",
    CHANGES,
    BASELINE,
    settings=(
        "dataloader.train.dataset.root={folder}/data/foregrounds",
        "dataloader.train.dataset.bg_dir={folder}/data/backgrounds/bg",
        "dataloader.test.root={folder}/data/test",
    ),
)


def write_data(folder: Path) -> None:
    """Draw the training and the held-out images, unless they exist."""
    data = folder / "data"
    complete = data / "complete"
    sizes = f"{FOREGROUNDS} {BACKGROUNDS} {TRAIN_SIZE} {TEST_IMAGES} {TEST_SIZE}\n"
    if complete.exists():
        if complete.read_text() != sizes:
            raise InputError(f"{folder}: contains images of another size or number; name another folder")
        return
    write_dim_layout(data / "foregrounds", FOREGROUNDS, size=TRAIN_SIZE, seed=11)
    write_dim_layout(data / "backgrounds", BACKGROUNDS, size=TRAIN_SIZE, seed=12)
    write_composition1k_layout(data / "test", TEST_IMAGES, size=TEST_SIZE, seed=13)
    complete.write_text(sizes)


if __name__ == "__main__":
    run(lambda: STUDY.main(__doc__, "output/ablation", write_data))
