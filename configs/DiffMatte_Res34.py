"""DiffMatte on ResNet-34-D with spectral norm, 150 epochs of Deep Image Matting at 512 x 512.

    python main.py --config-file configs/DiffMatte_Res34.py --num-gpus 2

The published recipe starts from GCA-Matting's ImageNet weights.
"""

from detectron2.config import LazyCall as L

from modeling.backbone import ResNet34D

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_deep_decoder, use_recipe

model.backbone = L(ResNet34D)()
model.trimap_input = "one_hot"
use_deep_decoder(features=512)

use_recipe(batch=20, gpus=2, lr=4e-4, epochs=150, lr_factors={30: 0.1, 90: 0.05, 140: 0.01}, stage2_epoch=100)
optimizer.params.layer_decay = 1.0  # the release's decay finds no layers in this encoder
train.output_dir = "./output/DiffMatte_Res34"
