"""A small trimap-free network that learns matting from procedural images in minutes on two CPU cores.

    python main.py --config-file configs/FrozenDINOv3_demo.py

The encoder starts from random weights, so it is trained too (`train.freeze=[]`). Samples show whole scenes, because a
detail does not show what the foreground is.
"""

from detectron2.config import LazyCall as L

from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from data.training.loader import build_train_loader

from .common.frozen_dinov3 import dataloader, lr_multiplier, model, optimizer, train

model.backbone.img_size = 96
model.backbone.embed_dim = 96
model.backbone.depth = 4
model.backbone.num_heads = 3
model.backbone.mlp_ratio = 4.0
model.decoder.num_maps = 2
model.decoder.dims = [96, 64, 32]
model.decoder.detail_stem = [16, 24, 32]
model.out_blocks = [1, 3]

dataloader.train = L(build_train_loader)(
    dataset=L(SyntheticMatting)(size=96, samples_per_epoch=100_000, seed="${train.seed}", scene_size=[96, 144]),
    batch_size=16,
    num_workers=1,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(EightBit)(
    dataset=L(SyntheticMatting)(size=128, samples_per_epoch=32, seed=1_000_003, scene_size=[128, 192])
)

train.output_dir = "./output/FrozenDINOv3_demo"
train.max_iter = 500
train.freeze = []
train.amp.enabled = False
train.checkpointer.period = 250
train.eval_period = 250

optimizer.lr = 3e-3
optimizer.weight_decay = 0.05
optimizer.params.pretrained_lr_mult = 1.0

lr_multiplier.scheduler.end_value = 0.01
lr_multiplier.warmup_length = 20 / train.max_iter
lr_multiplier.warmup_factor = 0.05
