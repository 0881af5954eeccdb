"""Stage 1 of a small Deep Image Matting that learns from procedural images in minutes on two CPU cores.

python main.py --config-file configs/DIM_demo_stage1.py
"""

from .common.dim_demo import dataloader, lr_multiplier, model, optimizer, train, use_demo_stage

use_demo_stage(1, max_iter=1800)
