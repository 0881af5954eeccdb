"""DiffMatte on the original ViT-S, 150 epochs of Deep Image Matting at 512 x 512; starts from DINO's weights.

python main.py --config-file configs/DiffMatte_ViTS.py --num-gpus 2 train.init_checkpoint=weights/dino_vits16.pth
"""

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_recipe

use_recipe(batch=16, gpus=2, lr=5e-5, epochs=150, lr_factors={30: 0.1, 90: 0.05}, stage2_epoch=100)
train.output_dir = "./output/DiffMatte_ViTS"
