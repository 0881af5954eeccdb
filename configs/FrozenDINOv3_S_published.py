"""The network and recipe of nikhiliit/Dinov3_matting: the last block's features, 224 x 224, losses as published.

    python main.py --config-file configs/FrozenDINOv3_S_published.py \\
        train.init_checkpoint=weights/dinov3_vits16.pth dataloader.root=DATA

There are two deliberate differences: pictures keep their proportions, and the encoder is in eval mode in training too.
`inference.py` needs this config for files that preprocess.py converts. No result is known yet.
"""

from .common.frozen_dinov3 import dataloader, lr_multiplier, model, optimizer, train

model.out_blocks = [-1]
model.decoder.num_maps = 1
model.decoder.dims = [256, 128, 64]
model.decoder.detail_stem = None
model.criterion.edge_weight = "exp"
model.criterion.border = "zeros"

dataloader.train.dataset.crop_size = 224
dataloader.train.dataset.largest_zoom = 1.0

train.output_dir = "./output/FrozenDINOv3_S_published"
