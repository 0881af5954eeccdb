"""Stage 3 of a small Deep Image Matting that learns from procedural images in minutes on two CPU cores.

python main.py --config-file configs/DIM_demo_stage3.py train.init_checkpoint=output/DIM_demo_stage2/model_final.pth
"""

from .common.dim_demo import dataloader, lr_multiplier, model, optimizer, train, use_demo_stage

use_demo_stage(3, max_iter=600)
