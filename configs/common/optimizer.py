"""AdamW with layer-wise learning-rate decay, as in ViTMatte."""

import torch
from detectron2.config import LazyCall as L

from engine.training.param_groups import param_groups

optimizer = L(torch.optim.AdamW)(
    params=L(param_groups)(
        # the training program sets model
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        layer_decay=0.65,
        head_lr_mult=1.0,
    ),
    lr=5e-4,
    betas=(0.9, 0.999),
    weight_decay=0.1,
)
