"""A narrow Deep Image Matting on procedural images, whose three stages train in minutes on two CPU cores."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit

from .dim import dataloader, model, optimizer, train, use_stage

model.backbone.widths = [8, 16, 32, 48, 48]
model.backbone.batch_norm = True
model.pixel_mean = [0.5, 0.5, 0.5]  # on ImageNet's scale, random weights nearly ignore the trimap
model.pixel_std = [1.0, 1.0, 1.0]

dataloader.train.dataset = L(SyntheticMatting)(size=64, samples_per_epoch=100_000, seed="${train.seed}")
dataloader.train.batch_size = 4
dataloader.train.num_workers = 1
dataloader.test = L(EightBit)(dataset=L(SyntheticMatting)(size=128, samples_per_epoch=32, seed=1_000_003))

optimizer.lr = 3e-3
train.clip_grad_norm = 1.0


def use_demo_stage(stage, max_iter):
    """Apply a stage and its length, with two evaluations."""
    use_stage(stage, f"./output/DIM_demo_stage{stage}")
    train.max_iter = max_iter
    train.checkpointer.period = train.eval_period = max_iter // 2


lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_length=0.04,
    warmup_factor=0.05,
)
