"""Deep Image Matting, stage 2: the refinement network alone, after the encoder-decoder of stage 1.

    python main.py --config-file configs/DIM_stage2.py train.init_checkpoint=output/DIM_stage1/model_best.pth

The best checkpoint is chosen on Composition-1k's test set, as in the published results (docs/systems.md).
"""

from .common.dim import dataloader, lr_multiplier, model, optimizer, train, use_stage

use_stage(2, "./output/DIM_stage2")
