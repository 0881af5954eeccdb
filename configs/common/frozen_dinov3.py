"""Matting without a trimap on a frozen DINOv3 ViT: model and recipe.

The losses, AdamW, cosine schedule and clipping are those of nikhiliit/Dinov3_matting. Its decoder is in
configs/FrozenDINOv3_S_published.py. The decoder here reads four blocks and the pixels.

The data are in DATA/{train,val,test}/{rgb_images,alpha_maps}. DATA is the setting `dataloader.root`, or the environment
variable DINOMATTE_ALPHA_ROOT.
"""

import os
from functools import partial

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf
from torch import nn

from data.testing.matting_folder import MattingFolder
from data.training.loader import build_train_loader
from data.training.whole_photographs import WholePhotographs
from engine.evaluation.evaluators import MattingEvaluator
from modeling.backbone import DINOV3_PIXEL_STATISTICS, DINOV3_VARIANTS, ViT
from modeling.criterion.edge_criterion import EdgeCriterion
from modeling.decoder.feature_decoder import FeatureDecoder
from modeling.meta_arch import FrozenDINOv3

from .optimizer import optimizer
from .train import train

METRICS = ["sad", "mse", "grad", "conn", "mad", "psnr", "ssim"]


def dinov3_encoder(name):
    """A published DINOv3 ViT for RGB, as in the files of preprocess.py."""
    variant = DINOV3_VARIANTS[name]
    return L(ViT)(
        in_chans=3,
        img_size=512,
        patch_size=16,
        embed_dim=variant.embed_dim,
        depth=variant.depth,
        num_heads=variant.num_heads,
        mlp_ratio=variant.mlp_ratio,
        ffn=variant.ffn,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        use_act_checkpoint=False,
    )


pixel_mean, pixel_std = DINOV3_PIXEL_STATISTICS["lvd1689m"]

model = L(FrozenDINOv3)(
    backbone=dinov3_encoder("dinov3_vits16"),
    decoder=L(FeatureDecoder)(
        in_chans="${..backbone.embed_dim}",
        num_maps=4,
        dims=[256, 128, 32],
        detail_stem=[8, 16, 24],
        trimap_input=False,
        boundary_refinement=False,
        use_act_checkpoint=False,
    ),
    criterion=L(EdgeCriterion)(
        alpha_loss="charbonnier",
        charbonnier_eps=1e-6,
        edge_weight="linear",  # with the published "exp", a few hard edges outweigh the rest
        border="replicate",  # the published "zeros" creates an edge along the border
        alpha_weight=1.0,
        gradient_weight=0.5,
        laplacian_weight=0.1,
    ),
    pixel_mean=list(pixel_mean),
    pixel_std=list(pixel_std),
    out_blocks=[2, 5, 8, 11],
)

dataloader = OmegaConf.create(dict(root=os.environ.get("DINOMATTE_ALPHA_ROOT", "DATA")))
dataloader.train = L(build_train_loader)(
    dataset=L(WholePhotographs)(
        root="${dataloader.root}/train",
        layout="rgb-alpha",
        samples_per_epoch=10_000,
        crop_size=512,
        seed="${train.seed}",
    ),
    fixed_views=None,  # number of samples to train on in every epoch; train.cache_features can then store features
    batch_size=8,  # for each process
    num_workers=4,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(MattingFolder)(
    image_dir="${dataloader.root}/val/rgb_images", alpha_dir="${dataloader.root}/val/alpha_maps", allow_extra=False
)
dataloader.evaluator = L(MattingEvaluator)(region="whole", names=METRICS)

train.output_dir = "./output/FrozenDINOv3"
train.max_iter = 62_500  # 50 epochs of 10,000 samples / 8
train.freeze = ["backbone"]
train.clip_grad_norm = 1.0
train.checkpointer.period = 6_250
train.eval_period = 6_250

optimizer.lr = 1e-4
optimizer.weight_decay = 0.01
optimizer.params.layer_decay = 1.0
optimizer.params.pretrained_lr_mult = 0.1  # for the parts that are not frozen

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=1e-3),  # down to 1e-7
    warmup_length=0.004,  # share of all iterations
    warmup_factor=0.01,
)
