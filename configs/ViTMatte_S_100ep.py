"""DINOv3 ViT-S/16, 100 epochs of Deep Image Matting, 16 images on each of 2 GPUs.

python main.py --config-file configs/ViTMatte_S_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth
"""

from .common.scheduler import iterations, step_schedule
from .ViTMatte_S_10ep import dataloader, model, optimizer, train

train.output_dir = "./output/ViTMatte_S_100ep"
train.max_iter = iterations(100, 16 * 2)  # 134,687
train.checkpointer.period = iterations(5, 16 * 2)

lr_multiplier = step_schedule(
    train.max_iter,
    factors=[1.0, 0.5, 0.2],
    milestones=[iterations(30, 16 * 2), iterations(70, 16 * 2)],
    warmup_iterations=1000,
)
