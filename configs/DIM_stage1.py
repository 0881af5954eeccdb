"""Deep Image Matting, stage 1: the encoder-decoder, on the losses of alpha and composition.

    python main.py --config-file configs/DIM_stage1.py train.init_checkpoint=weights/vgg16.pth

The best checkpoint is chosen on Composition-1k's test set, as in the published results (docs/systems.md).
"""

from .common.dim import dataloader, lr_multiplier, model, optimizer, train, use_stage

use_stage(1, "./output/DIM_stage1")
