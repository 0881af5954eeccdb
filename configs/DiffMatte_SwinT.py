"""DiffMatte on MatteFormer's Swin-T with prior tokens, 150 epochs of Deep Image Matting at 512 x 512.

    python main.py --config-file configs/DiffMatte_SwinT.py --num-gpus 2

The published recipe starts from ImageNet weights. The release's README gives 48.8 million parameters for this model;
its config, and therefore this one, has 38.8 million.
"""

from detectron2.config import LazyCall as L

from modeling.backbone import PriorSwin

from .common.diffmatte import dataloader, lr_multiplier, model, optimizer, train, use_deep_decoder, use_recipe

model.backbone = L(PriorSwin)(drop_path_rate=0.3)
model.trimap_input = "one_hot"
use_deep_decoder(features=768)

use_recipe(batch=20, gpus=2, lr=4e-4, epochs=150, lr_factors={30: 0.1, 90: 0.05, 140: 0.01}, stage2_epoch=100)
optimizer.params.layer_decay = 1.0  # the release's decay finds no layers in this encoder
train.output_dir = "./output/DiffMatte_SwinT"
