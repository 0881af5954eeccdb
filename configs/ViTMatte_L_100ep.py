"""DINOv3 ViT-L/16, 100 epochs of Deep Image Matting, 8 images on each of 2 GPUs.

    python main.py --config-file configs/ViTMatte_L_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vitl16.pth

There is no published ViTMatte-L. The schedule is ViTMatte-B's. Settings that depend on depth follow ViTDet-L (global
attention every sixth block, layer decay 0.8, drop path 0.4, halved here for the shorter schedule).
"""

from .common.dataloader import dataloader
from .common.model import dinov3_backbone, model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

global_blocks = [5, 11, 17, 23]
model.backbone = dinov3_backbone(
    "dinov3_vitl16",
    window_block_indexes=[index for index in range(24) if index not in global_blocks],
    residual_block_indexes=global_blocks,
    drop_path_rate=0.2,
)
model.backbone.use_act_checkpoint = True
dataloader.train.batch_size = 8
optimizer.params.layer_decay = 0.8

train.output_dir = "./output/ViTMatte_L_100ep"
train.max_iter = int(43100 / 8 / 2 * 100)
train.checkpointer.period = int(43100 / 8 / 2 * 10)

lr_multiplier.scheduler.values = [1.0, 0.1, 0.05]
lr_multiplier.scheduler.milestones = [int(43100 / 8 / 2 * 30), int(43100 / 8 / 2 * 90)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 250 / train.max_iter
