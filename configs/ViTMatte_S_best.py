"""ViTMatte_S_100ep with what helped in the ablation of docs/recipe.md: 100 epochs, 16 images on each of 2 GPUs.

    python main.py --config-file configs/ViTMatte_S_best.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth

The gains were measured on procedural images with a small network; at this size the result is not known yet.
"""

from detectron2.config import LazyCall as L

from engine.training.muon import MuonAdamW
from modeling.priors.colour_prior import ColourPrior

from .ViTMatte_S_100ep import dataloader, lr_multiplier, model, optimizer, train

# Register tokens kept, as in every DINOv3 config here.

# Colours carried from the known regions, the largest gain of all: a network without them first learns to interpolate
# the trimap, and only slowly to fetch colours from afar. They enter the decoder; the pretrained backbone is as it was.
model.colour_prior = L(ColourPrior)(sigmas=[4, 12, 36])
model.decoder.img_chans = 4 + 3 * 4  # RGB, trimap, and three channels for each scale of the prior

# Muon for decoder, residual convolutions and projections. Pretrained weights keep AdamW, which they were trained with.
optimizer._target_ = MuonAdamW
optimizer.params.muon_for_new = True

# Features after the other global blocks hold detail that the last has given up. Their projections start at zero.
model.backbone.merge_block_indexes = [2, 5, 8]

train.output_dir = "./output/ViTMatte_S_best"
