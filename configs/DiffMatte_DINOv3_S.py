"""DiffMatte on DINOv3 ViT-S/16 with ViTMatte's windows, by the recipe of the original ViT-S.

    python main.py --config-file configs/DiffMatte_DINOv3_S.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth
"""

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_recipe
from .common.model import dinov3_backbone, pixel_mean, pixel_std

model.backbone = dinov3_backbone(
    "dinov3_vits16",
    window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
    residual_block_indexes=[2, 5, 8, 11],
)
model.pixel_mean, model.pixel_std = list(pixel_mean), list(pixel_std)

use_recipe(batch=16, gpus=2, lr=5e-5, epochs=150, lr_factors={30: 0.1, 90: 0.05}, stage2_epoch=100)
train.output_dir = "./output/DiffMatte_DINOv3_S"
