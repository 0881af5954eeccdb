"""DINOv3 ViT-L/16, 100 epochs of Deep Image Matting, 8 images on each of 2 GPUs.

    python main.py --config-file configs/ViTMatte_L_100ep.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vitl16.pth

There is no published ViTMatte-L; depth-dependent settings follow ViTDet-L (global attention every sixth block,
layer decay 0.8, drop path 0.4 halved for the shorter schedule).
"""

from .common.model import dinov3_backbone
from .common.scheduler import iterations, step_schedule
from .ViTMatte_S_100ep import dataloader, model, optimizer, train

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
train.max_iter = iterations(100, 8 * 2)  # 269,375
train.checkpointer.period = iterations(10, 8 * 2)

lr_multiplier = step_schedule(
    train.max_iter,
    factors=[1.0, 0.1, 0.05],
    milestones=[iterations(30, 8 * 2), iterations(90, 8 * 2)],
    warmup_iterations=250,
)
