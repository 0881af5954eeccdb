"""DiffMatte on the original ViT-B, 170 epochs of Deep Image Matting at 512 x 512; starts from MAE's weights.

python main.py --config-file configs/DiffMatte_ViTB.py --num-gpus 2 train.init_checkpoint=weights/mae_vitb16.pth
"""

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_recipe
from .common.model import original_backbone

model.backbone = original_backbone(embed_dim=768, num_heads=12)

use_recipe(batch=16, gpus=2, lr=2.5e-4, epochs=170, lr_factors={30: 0.1, 90: 0.05, 140: 0.01}, stage2_epoch=80)
train.output_dir = "./output/DiffMatte_ViTB"
