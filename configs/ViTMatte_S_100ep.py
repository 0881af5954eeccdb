"""DINOv3 ViT-S/16, 100 epochs of Deep Image Matting, 16 images on each of 2 GPUs.

    python main.py --config-file configs/ViTMatte_S_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth

The long schedule of manic-cui/DINOv3-ViTMatte.
"""

from .common.dataloader import dataloader
from .common.model import model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

train.output_dir = "./output/ViTMatte_S_100ep"
train.max_iter = int(43100 / 16 / 2 * 100)  # 43100 = 431 foregrounds x 100 backgrounds
train.checkpointer.period = int(43100 / 16 / 2 * 5)

optimizer.lr = 5e-4
optimizer.params.layer_decay = 0.65
optimizer.params.head_lr_mult = 3.0

lr_multiplier.scheduler.values = [1.0, 0.5, 0.2]
lr_multiplier.scheduler.milestones = [int(43100 / 16 / 2 * 30), int(43100 / 16 / 2 * 70)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 1000 / train.max_iter
