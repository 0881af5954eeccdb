"""Matting without a trimap on a frozen DINOv3 ViT-L/16 (configs/common/frozen_dinov3.py).

    python main.py --config-file configs/FrozenDINOv3_L.py \\
        train.init_checkpoint=weights/dinov3_vitl16.pth dataloader.root=DATA

No result is known yet.
"""

from .common.frozen_dinov3 import dataloader, dinov3_encoder, lr_multiplier, model, optimizer, train

model.backbone = dinov3_encoder("dinov3_vitl16")
model.out_blocks = [5, 11, 17, 23]

train.output_dir = "./output/FrozenDINOv3_L"
