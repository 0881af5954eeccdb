"""The published recipe at a size for CPUs, of which tools/ablation.py changes one thing at a time.

    python tools/ablation.py --output-dir output/ablation

The recipe is that of hustvl/ViTMatte in the form of manic-cui/DINOv3-ViTMatte: no prefix tokens, rotary positions that
restart in every window, windows padded with zeros, a fixed foreground for each background, trimaps made on a small
square, losses on all pixels, a stepped learning rate, last features and last weights. Lengths are about an eighth of
the original ones: crops of 64 instead of 512, patches of 8, trimaps on 96 instead of 640 pixels. Only the learning rate
is tuned, because the published 5e-4 is too small for so few iterations from random weights.
"""

from functools import partial

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf
from torch import nn

from data.testing.composition1k import Composition1k
from data.training.dim_dataset import CompositionDataset
from data.training.loader import build_train_loader
from data.transforms import AffineRange
from modeling.backbone import ViT

from .common.model import model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

model.backbone = L(ViT)(
    in_chans=4,
    img_size=64,
    patch_size=8,
    embed_dim=96,
    depth=4,
    num_heads=3,
    norm_layer=partial(nn.LayerNorm, eps=1e-5),
    layer_scale_init=0.1,  # the size of trained scales; starting from DINOv3's 1e-5 would take too long
    window_size=3,
    window_block_indexes=[0, 2],
    residual_block_indexes=[1, 3],
    use_cls_token=False,
    num_register_tokens=0,
    rope_in_windows="window",
    window_padding="zeros",
)
model.size_divisibility = 16
model.decoder.convstream_out = [16, 32]
model.decoder.fusion_out = [48, 32, 16]

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(CompositionDataset)(
        root=None,
        samples_per_epoch=600,
        crop_size=64,
        trimap_size=96,
        trimap_erosion=[1, 5],
        resize640_prob=0.0,
        affine=L(AffineRange)(rotation_min_side=160),
        pairing="modulo",
        seed="${train.seed}",
    ),
    batch_size=10,
    num_workers=0,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(Composition1k)(root=None)

train.output_dir = "./output/ablation/published"
train.max_iter = 400
train.amp.enabled = False
train.checkpointer.period = 100_000
train.log_period = 50

optimizer.lr = 2e-3
optimizer.params.layer_decay = 0.65
optimizer.params.head_lr_mult = 3.0

lr_multiplier.scheduler.values = [1.0, 0.5, 0.2]
lr_multiplier.scheduler.milestones = [80, 95]  # epochs 8 and 9.5 of 10
lr_multiplier.scheduler.num_updates = 100
lr_multiplier.warmup_length = 1000 / 13470
