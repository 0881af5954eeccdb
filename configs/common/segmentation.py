"""Segmentation of persons: the model on a ViT, its classes, folders of pictures and masks, and a training recipe.

The data are in a folder with train_images, train_masks, valid_images and valid_masks. It is set by
dataloader.train.dataset.root and dataloader.test.root, or by the environment variable DINOMATTE_SEGMENTATION_ROOT.

The backbone is frozen. To fine-tune it, at a tenth of the head's learning rate:  train.freeze=[]
"""

from functools import partial

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf
from torch import nn

from data.testing.segmentation_folder import SegmentationFolder
from data.training.loader import build_train_loader
from data.training.segmentation_folders import SegmentationFolders
from engine.evaluation.evaluators import SegmentationEvaluator
from modeling.backbone import DINOV2_VARIANTS, ViT, dinov2_arguments
from modeling.backbone.variants import DINOV2_EPS, DINOV2_IMG_SIZE, DINOV2_PATCH_SIZE, IMAGENET_STATISTICS
from modeling.meta_arch import Segmentation

from .optimizer import optimizer
from .scheduler import lr_multiplier
from .train import train


def dinov2_backbone(name, registers=0):
    """A published DINOv2 architecture, with no or four register tokens."""
    embed_dim, depth, num_heads = DINOV2_VARIANTS[name]
    return L(ViT)(
        in_chans=3,
        img_size=DINOV2_IMG_SIZE,
        patch_size=DINOV2_PATCH_SIZE,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=4.0,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=DINOV2_EPS),
        pretrain_img_size=DINOV2_IMG_SIZE,
        **dinov2_arguments(registers),
    )


model = L(Segmentation)(
    backbone=dinov2_backbone("dinov2_vits14"),
    classes=[  # names, colours and the label values of mask files
        dict(name="background", colour=[0, 0, 0], value=0),
        dict(name="person", colour=[0, 255, 0], value=1),
    ],
    pixel_mean=list(IMAGENET_STATISTICS[0]),
    pixel_std=list(IMAGENET_STATISTICS[1]),
    out_layers=[8, 9, 10, 11],
    head_in_index=[0, 1, 2, 3],
    max_side=644,
    dropout=0.0,
)

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(SegmentationFolders)(
        root=None,
        classes="${model.classes}",
        mask_mode="binary",  # ids, binary (also for instance numbers) or colour
        samples_per_epoch=168,
        crop_size=644,
        seed="${train.seed}",
    ),
    batch_size=8,
    num_workers=4,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(SegmentationFolder)(
    root=None, classes="${model.classes}", mask_mode="${dataloader.train.dataset.mask_mode}"
)
dataloader.evaluator = L(SegmentationEvaluator)(classes="${model.classes}", loss=True)

optimizer.lr = 1e-5  # for the backbone if it is not frozen
optimizer.params.head_lr_mult = 10.0
optimizer.params.layer_decay = 1.0
optimizer.weight_decay = 1e-4

epoch = 168 // 8  # iterations
train.max_iter = 30 * epoch
train.eval_period = epoch
train.checkpointer.period = 5 * epoch
train.checkpointer.max_to_keep = 2
train.checkpointer.best_metric = ["loss", "miou"]
train.freeze = ["backbone"]
train.panel_files = True
train.scan_data = "decode"  # finds masks with unknown values before the first iteration

lr_multiplier.scheduler.values = [1.0, 0.1]
lr_multiplier.scheduler.milestones = [25 * epoch]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 10 / train.max_iter
