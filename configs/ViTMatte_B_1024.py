"""DINOv3 ViT-B/16 on crops of 1024 pixels for 200 epochs, 4 images on each of 4 GPUs, two such batches per step.

    python main.py --config-file configs/ViTMatte_B_1024.py --num-gpus 4 \\
        train.init_checkpoint=weights/dinov3_vitb16.pth

The schedule is that of ViTMatte_S_1024. No ViT-B with it has been published, and no result of this config is known yet.
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
    drop_path_rate=0.1,  # as in ViTMatte-B
)
model.backbone.img_size = 1024
model.backbone.use_act_checkpoint = True
dataloader.train.dataset.crop_size = 1024
dataloader.train.batch_size = 4

train.accumulate = 2
train.output_dir = "./output/ViTMatte_B_1024"
train.max_iter = int(43100 / 32 * 200)  # 32 = 4 images x 4 GPUs x 2 micro-batches
train.checkpointer.period = int(43100 / 32 * 10)
train.amp.dtype = "bf16"
train.sync_batch_norm = True

optimizer.lr = 5e-4
optimizer.params.layer_decay = 0.65
optimizer.params.head_lr_mult = 3.0

lr_multiplier.scheduler.values = [1.0, 0.1, 0.05, 0.01]
lr_multiplier.scheduler.milestones = [int(43100 / 32 * epoch) for epoch in (60, 110, 170)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 1000 / train.max_iter
