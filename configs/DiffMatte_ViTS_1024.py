"""DiffMatte on the original ViT-S, 200 epochs of Deep Image Matting at 1024 x 1024; starts from DINO's weights.

python main.py --config-file configs/DiffMatte_ViTS_1024.py --num-gpus 4 \\
        train.init_checkpoint=weights/dino_vits16.pth
"""

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_recipe

model.backbone.img_size = 1024  # size of the tables of relative positions
dataloader.train.dataset.crop_size = 1024

use_recipe(batch=8, gpus=4, lr=5e-5, epochs=200, lr_factors={60: 0.1, 110: 0.05, 170: 0.01}, stage2_epoch=100)
train.output_dir = "./output/DiffMatte_ViTS_1024"
