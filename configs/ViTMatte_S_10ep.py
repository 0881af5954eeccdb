"""DINOv3 ViT-S/16, 10 epochs of Deep Image Matting: the schedule of manic-cui/DINOv3-ViTMatte's report.

    python main.py --config-file configs/ViTMatte_S_10ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth

The report gives SAD 29.28 and MSE 6.1e-3 on Composition-1k. No result of this config is known yet (see the README).
"""

from .common.dataloader import dataloader
from .common.model import model
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

iterations_per_epoch = 1347  # 43100 images / (16 images x 2 GPUs), rounded up as the report counts

train.output_dir = "./output/ViTMatte_S_10ep"
train.max_iter = 10 * iterations_per_epoch
train.checkpointer.period = 2 * iterations_per_epoch

optimizer.lr = 5e-4
optimizer.params.layer_decay = 0.65
optimizer.params.head_lr_mult = 3.0  # the factor in that project's code; its report says five

lr_multiplier.scheduler.values = [1.0, 0.5, 0.2]
lr_multiplier.scheduler.milestones = [8 * iterations_per_epoch, int(9.5 * iterations_per_epoch)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 1000 / train.max_iter
