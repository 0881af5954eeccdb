"""Deep Image Matting: the model, and the common recipe of its three stages.

Xu et al., "Deep Image Matting", CVPR 2017, as trained in open-mmlab/mmagic: Adam at a constant 1e-5, one sample per
iteration, 1,000,000 iterations, validation every 40,000. Crops of 320, 480 and 640 pixels are resized to 320.
"""

import torch
from detectron2.config import LazyCall as L
from fvcore.common.param_scheduler import ConstantParamScheduler

from data.transforms import AffineRange
from engine.training.param_groups import param_groups
from modeling.backbone import VGG16
from modeling.criterion.dim_criterion import DIMCriterion
from modeling.decoder.unpooling import RefinementNetwork, UnpoolingDecoder
from modeling.meta_arch import DIM

from .dataloader import dataloader
from .train import train

model = L(DIM)(
    stage=1,
    backbone=L(VGG16)(in_chans=4, widths=[64, 128, 256, 512, 512], batch_norm=False),
    decoder=L(UnpoolingDecoder)(widths="${..backbone.widths}"),
    refiner=None,
    criterion=L(DIMCriterion)(alpha_weight=0.5, composition_weight=0.5, refinement_weight=1.0),
    pixel_mean=[0.485, 0.456, 0.406],
    pixel_std=[0.229, 0.224, 0.225],
)


def use_stage(stage, output_dir):
    """Apply the settings that differ between the stages."""
    model.stage = stage
    model.refiner = None if stage == 1 else L(RefinementNetwork)(width=64)
    train.output_dir = output_dir


dataloader.train.batch_size = 1
dataloader.train.dataset.update(
    crop_size=[320, 480, 640],
    crop_centre="fractional",
    trimap_erosion=[1, 29],
    trimap_size=None,
    double_foreground_prob=0.0,
    resize640_prob=0.0,
    affine=L(AffineRange)(rotation=0.0, scale=[1.0, 1.0], shear=0.0, flip_prob=[0.5, 0.0]),
    interpolation="linear",
    colour_jitter=False,
    return_layers=True,
)

optimizer = L(torch.optim.Adam)(
    params=L(param_groups)(base_lr="${..lr}", weight_decay="${..weight_decay}", layer_decay=1.0, head_lr_mult=1.0),
    lr=1e-5,
    weight_decay=0.0,
)
lr_multiplier = L(ConstantParamScheduler)(value=1.0)

train.amp.enabled = False
train.max_iter = 1_000_000
train.checkpointer.period = 40_000
train.eval_period = 40_000
