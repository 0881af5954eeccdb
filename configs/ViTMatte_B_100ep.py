"""DINOv3 ViT-B/16, 100 epochs of Deep Image Matting, 10 images on each of 2 GPUs: ViTMatte-B's schedule.

python main.py --config-file configs/ViTMatte_B_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vitb16.pth
"""

from .common.model import dinov3_backbone
from .common.scheduler import iterations, step_schedule
from .ViTMatte_S_100ep import dataloader, model, optimizer, train

model.backbone = dinov3_backbone(
    "dinov3_vitb16",
    window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
    residual_block_indexes=[2, 5, 8, 11],
)
dataloader.train.batch_size = 10

train.output_dir = "./output/ViTMatte_B_100ep"
train.max_iter = iterations(100, 10 * 2)  # 215,500
train.checkpointer.period = iterations(10, 10 * 2)

lr_multiplier = step_schedule(
    train.max_iter,
    factors=[1.0, 0.1, 0.05],
    milestones=[iterations(30, 10 * 2), iterations(90, 10 * 2)],
    warmup_iterations=250,
)
