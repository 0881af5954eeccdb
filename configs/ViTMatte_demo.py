"""A small network that learns matting from procedural images in minutes on two CPU cores, trained by `make demo`.

    python main.py --config-file configs/ViTMatte_demo.py train.init_checkpoint=output/demo/backbone.pth

It has the parts of the large models and one addition. Because there are no pretrained features, the decoder also reads
colours transported from the known regions (modeling/priors/colour_prior.py).
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
from modeling.priors.colour_prior import ColourPrior

from .common.model import model
from .common.optimizer import optimizer
from .common.train import train

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
model.colour_prior = L(ColourPrior)(sigmas=[4, 12, 36])
model.decoder.img_chans = 4 + 3 * 4  # RGB, trimap, and three channels for each scale of the prior
model.decoder.convstream_out = [32, 48, 64]
model.decoder.fusion_out = [96, 64, 32, 16]

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(SyntheticMatting)(size=96, samples_per_epoch=100_000, seed="${train.seed}"),
    batch_size=16,
    num_workers=1,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(EightBit)(dataset=L(SyntheticMatting)(size=256, samples_per_epoch=16, seed=1_000_003))

train.output_dir = "./output/demo"
train.max_iter = 500
train.amp.enabled = False
train.clip_grad_norm = 1.0
train.checkpointer.period = 250
train.eval_period = 250

optimizer.lr = 3e-3
optimizer.weight_decay = 0.05
optimizer.params.layer_decay = 1.0  # the backbone also starts from random weights
optimizer.params.head_lr_mult = 1.0

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_length=20 / train.max_iter,
    warmup_factor=0.05,
)
