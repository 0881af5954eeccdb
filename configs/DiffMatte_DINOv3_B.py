"""DiffMatte on DINOv3 ViT-B/16 with ViTMatte's windows, by the recipe of the original ViT-B.

    python main.py --config-file configs/DiffMatte_DINOv3_B.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vitb16.pth
"""

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_recipe
from .common.model import dinov3_backbone, pixel_mean, pixel_std

model.backbone = dinov3_backbone(
    "dinov3_vitb16",
    window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
    residual_block_indexes=[2, 5, 8, 11],
)
model.pixel_mean, model.pixel_std = list(pixel_mean), list(pixel_std)

use_recipe(batch=16, gpus=2, lr=2.5e-4, epochs=170, lr_factors={30: 0.1, 90: 0.05, 140: 0.01}, stage2_epoch=80)
train.output_dir = "./output/DiffMatte_DINOv3_B"
