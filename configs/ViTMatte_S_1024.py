"""DINOv3 ViT-S/16 on crops of 1024 pixels for 200 epochs, 8 images on each of 4 GPUs.

    python main.py --config-file configs/ViTMatte_S_1024.py --num-gpus 4 \\
        train.init_checkpoint=weights/dinov3_vits16.pth

The best published results have large crops and a long schedule in common: with them YihanHu-2022/DiffMatte's ViT-S
improves from SAD 20.52 to 17.15 on Composition-1k. The length and the steps are that project's, the rest is ViTMatte's.
Losses are true means over pixels, so their scale is the same at 1024; ViTMatte's own losses shrink to a quarter. No
result of this config is known yet.

With fewer GPUs, --num-gpus 2 train.accumulate=2 or --num-gpus 1 train.accumulate=4 give the same steps.
"""

from .common.dataloader import dataloader
from .common.model import model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

model.backbone.img_size = 1024
model.backbone.use_act_checkpoint = True
dataloader.train.dataset.crop_size = 1024
dataloader.train.batch_size = 8

train.output_dir = "./output/ViTMatte_S_1024"
train.max_iter = int(43100 / 8 / 4 * 200)
train.checkpointer.period = int(43100 / 8 / 4 * 10)
train.amp.dtype = "bf16"
train.sync_batch_norm = True  # 8 images are too few for good statistics

optimizer.lr = 5e-4
optimizer.params.layer_decay = 0.65
optimizer.params.head_lr_mult = 3.0

lr_multiplier.scheduler.values = [1.0, 0.1, 0.05, 0.01]
lr_multiplier.scheduler.milestones = [int(43100 / 8 / 4 * epoch) for epoch in (60, 110, 170)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 1000 / train.max_iter
