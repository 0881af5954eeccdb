"""Deep Image Matting, stage 3: all parameters, from the networks of stage 2.

    python main.py --config-file configs/DIM_stage3.py train.init_checkpoint=output/DIM_stage2/model_best.pth

The best checkpoint is chosen on Composition-1k's test set, as in the published results (docs/systems.md).
"""

from .common.dim import dataloader, lr_multiplier, model, optimizer, train, use_stage

use_stage(3, "./output/DIM_stage3")
