"""ViTMatte_S_100ep with the helpful changes of docs/recipe.md: 100 epochs, 16 images on each of 2 GPUs.

    python main.py --config-file configs/ViTMatte_S_best.py --num-gpus 2 \\
        train.init_checkpoint=weights/dinov3_vits16.pth

The gains were measured on procedural images with a small network. No result at this size is known yet.
"""

from detectron2.config import LazyCall as L

from engine.training.muon import MuonAdamW
from modeling.priors.colour_prior import ColourPrior

from .ViTMatte_S_100ep import dataloader, lr_multiplier, model, optimizer, train

# Register tokens are kept, as in every DINOv3 config here.

# Colours transported from the known regions have the largest gain. Without them, a network first learns to interpolate
# the trimap, and learns only slowly to transport colours. They enter the decoder; the pretrained backbone is unchanged.
model.colour_prior = L(ColourPrior)(sigmas=[4, 12, 36])
model.decoder.img_chans = 4 + 3 * 4  # RGB, trimap, and three channels for each scale of the prior

# Muon trains decoder, residual convolutions and projections. Pretrained weights keep AdamW, with which they were
# trained.
optimizer._target_ = MuonAdamW
optimizer.params.muon_for_new = True

# Features after the other global blocks have details that the last block lacks. Their projections start at zero.
model.backbone.merge_block_indexes = [2, 5, 8]

train.output_dir = "./output/ViTMatte_S_best"
