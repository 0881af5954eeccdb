"""DINOv3 ViT-B/16, 100 epochs of Deep Image Matting, 10 images on each of 2 GPUs: ViTMatte-B's schedule.

    python main.py --config-file configs/ViTMatte_B_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vitb16.pth
"""

from .common.dataloader import dataloader
from .common.model import dinov3_backbone, model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

model.backbone = dinov3_backbone(
    "dinov3_vitb16",
    window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
    residual_block_indexes=[2, 5, 8, 11],
)
dataloader.train.batch_size = 10

train.output_dir = "./output/ViTMatte_B_100ep"
train.max_iter = int(43100 / 10 / 2 * 100)
train.checkpointer.period = int(43100 / 10 / 2 * 10)

lr_multiplier.scheduler.values = [1.0, 0.1, 0.05]
lr_multiplier.scheduler.milestones = [int(43100 / 10 / 2 * 30), int(43100 / 10 / 2 * 90)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 250 / train.max_iter
