"""A small DiffMatte that learns matting from procedural images in minutes on two CPU cores, through both stages.

    python main.py --config-file configs/DiffMatte_demo.py

Training starts from random weights. It is plain at first, self-aligned from pure noise from 40 % of the iterations on,
and self-aligned over intervals from 60 % on.
"""

from functools import partial

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf
from torch import nn

from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from data.training.loader import build_train_loader
from modeling.backbone import ViT

from .common.diffmatte import model, optimizer, train

model.backbone = L(ViT)(
    in_chans=4,
    img_size=96,
    patch_size=16,
    embed_dim=96,
    depth=4,
    num_heads=3,
    norm_layer=partial(nn.LayerNorm, eps=1e-5),
    window_size=6,
    window_block_indexes=[0, 2],
    residual_block_indexes=[1, 3],
)
model.decoder.model_channels = 16
model.decoder.downsample_in = [7, 16, 32, 48]
model.decoder.upsample_in = [96, 64, 48, 32, 16]

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(SyntheticMatting)(size=96, samples_per_epoch=100_000, seed="${train.seed}"),
    batch_size=16,
    num_workers=1,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(EightBit)(dataset=L(SyntheticMatting)(size=256, samples_per_epoch=16, seed=1_000_003))

train.seed = 0
train.output_dir = "./output/DiffMatte_demo"
train.max_iter = 500
train.self_align_stage1_step = 200
train.self_align_stage2_step = 300
train.clip_grad_norm = 1.0
train.checkpointer.period = 250
train.eval_period = 250
train.picture_period = 100

optimizer.lr = 3e-3
optimizer.weight_decay = 0.05
optimizer.params.layer_decay = 1.0  # the backbone also starts from random weights

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_length=20 / train.max_iter,
    warmup_factor=0.05,
)
