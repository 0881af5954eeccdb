"""DiffMatte: the model on the original ViT-S, and its training recipe.

Hu et al., "Diffusion for Natural Image Matting", ECCV 2024 (YihanHu-2022/DiffMatte). The recipe's lengths are in epochs
of 43,100 samples. The release describes the training of each model but does not include a trainer.
"""

from detectron2.config import LazyCall as L

from modeling.criterion import MattingCriterion
from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.diffusion import GaussianDiffusion
from modeling.meta_arch import DiffMatte

from .dataloader import dataloader
from .model import original_backbone
from .optimizer import optimizer
from .scheduler import lr_multiplier
from .train import train

SAMPLES_PER_EPOCH = 43100
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

model = L(DiffMatte)(
    backbone=original_backbone(embed_dim=384, num_heads=6),
    decoder=L(DiffusionUNet)(
        model_channels=32,
        emb_channels=32,
        downsample_in=[7, 32, 64, 128],  # the input is RGB, the trimap's three regions and the noisy alpha
        upsample_in=["${...backbone.embed_dim}", 256, 128, 64, 32],
    ),
    diffusion=L(GaussianDiffusion)(noise_schedule="linear", scale=0.2),
    criterion=L(MattingCriterion)(
        losses=["mse_loss", "unknown_l1_loss", "known_l1_loss", "loss_gradient_penalty", "loss_pha_laplacian"],
    ),
    pixel_mean=IMAGENET_MEAN,
    pixel_std=IMAGENET_STD,
    size_divisibility=32,
    trimap_input="value",
    sample_strategy="ddim10",
    clamp_known_each_step=None,
    self_align_stage1_step="${train.self_align_stage1_step}",
    self_align_stage2_step="${train.self_align_stage2_step}",
)


def use_deep_decoder(features):
    """Use the decoder for features at 1/32 with this number of channels."""
    model.decoder.downsample_in = [7, 32, 64, 128, 128]
    model.decoder.upsample_in = [features, 256, 256, 128, 64, 32]


train.seed = 8282
train.amp.enabled = False
train.self_align_stage1_step = None
optimizer.params.layer_decay = 0.65


def use_recipe(batch, gpus, lr, epochs, lr_factors, stage2_epoch):
    """Set a published recipe.

    Args:
        batch: number of images on each of `gpus` GPUs.
        lr_factors: epoch -> factor of the learning rate from this epoch on.
        stage2_epoch: epoch from which training is self-aligned in stage 2.
    """

    def iterations(epoch):
        return int(SAMPLES_PER_EPOCH / batch / gpus * epoch)

    dataloader.train.batch_size = batch
    train.max_iter = iterations(epochs)
    train.checkpointer.period = iterations(10)
    train.self_align_stage2_step = iterations(stage2_epoch)
    optimizer.lr = lr
    lr_multiplier.scheduler.values = [1.0, *lr_factors.values()]
    lr_multiplier.scheduler.milestones = [iterations(epoch) for epoch in lr_factors]
    lr_multiplier.scheduler.num_updates = train.max_iter
    lr_multiplier.warmup_length = 250 / train.max_iter
