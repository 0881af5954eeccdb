"""The original ViTMatte in small: ViTDet's ViT with absolute and relative positions, on procedural images.

    python main.py --config-file configs/ViTMatte_original_demo.py

All but the backbone is that of configs/ViTMatte_demo.py. Training starts from random weights.
"""

from .common.model import original_backbone
from .ViTMatte_demo import dataloader, lr_multiplier, model, optimizer, train

model.backbone = original_backbone(embed_dim=96, num_heads=3)
model.backbone.img_size = 96
model.backbone.pretrain_img_size = 96
model.backbone.depth = 4
model.backbone.window_size = 6
model.backbone.window_block_indexes = [0, 2]
model.backbone.residual_block_indexes = [1, 3]

train.output_dir = "./output/ViTMatte_original_demo"
