"""Person segmentation on a frozen DINOv3 ViT-S/16, with the recipe of PersonSeg_DINOv2_S.

    python main.py --config-file configs/PersonSeg_DINOv3_S.py train.init_checkpoint=weights/dinov3_vits16.pth \\
        dataloader.train.dataset.root=DATA dataloader.test.root=DATA
"""

from .common.model import dinov3_backbone, pixel_mean, pixel_std
from .common.segmentation import dataloader, lr_multiplier, model, optimizer, train

model.backbone = dinov3_backbone("dinov3_vits16", window_block_indexes=[], residual_block_indexes=[])
model.backbone.in_chans = 3
model.backbone.img_size = 640
model.pixel_mean, model.pixel_std = list(pixel_mean), list(pixel_std)
model.max_side = 640
dataloader.train.dataset.crop_size = 640

train.output_dir = "./output/PersonSeg_DINOv3_S"
