"""The model in the box: small enough for the repository, trained from random weights on free data alone.

    python main.py --config-file configs/ViTMatte_box.py dataloader.train.dataset.root=LIBRARY

LIBRARY has fg/ and alpha/ of tools/render_foregrounds.py, bg/ of tools/collect_backgrounds.py, and in validation/ fg/
and alpha/ rendered with another seed (docs/box.md). For another number of iterations, set train.max_iter, and set
dataloader.train.late_start, from which crops are larger, to three quarters of it.
"""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf

from data.testing.eight_bit import EightBit
from data.training.dim_dataset import CompositionDataset
from data.training.loader import build_train_loader
from data.training.realism import Realism
from data.transforms import AffineRange
from engine.training.muon import MuonAdamW
from modeling.backbone import ViT
from modeling.priors import PriorStack
from modeling.priors.closed_form_prior import ClosedFormPrior
from modeling.priors.colour_prior import ColourPrior

from .common.model import model
from .common.optimizer import optimizer
from .common.train import train

CROP, BATCH = 256, 64
ITERATIONS = 7000

model.backbone = L(ViT)(
    in_chans=4,
    img_size=CROP,
    patch_size=16,
    embed_dim=256,
    depth=6,
    num_heads=4,
    mlp_ratio=3,
    window_size=8,
    window_block_indexes=[0, 2, 4],
    residual_block_indexes=[1, 3, 5],
    merge_block_indexes=[1, 3],
    layer_scale_init=0.1,
    rope_coordinates="step",  # photographs are larger than crops; patches keep the distances of training
)

# Input channels of the decoder: RGB and trimap; alpha of closed-form matting, its misfit, and whether they are present,
# since they are absent in part of the samples; then for each scale of the colour prior, coarse to fine, projected
# alpha, residual and distance.
model.colour_prior = L(PriorStack)(
    priors=[L(ClosedFormPrior)(scale=2), L(ColourPrior)(sigmas=[4, 12, 36])],
    drop_probs=[0.15, 0.0],
)
CLOSED_FORM, COLOUR = 4, 4 + 3  # first channel of each prior
model.decoder.img_chans = COLOUR + 3 * 4
model.decoder.candidates = [CLOSED_FORM, COLOUR + 3 * 3]  # closed-form alpha, and the finest scale's projected alpha
model.decoder.candidate_drop = 0.2
model.decoder.convstream_out = [48, 96, 128]
model.decoder.fusion_out = [160, 96, 64, 32]
model.decoder.head_chans = 24

# From about 2.5 megapixels on, mattes are better if the encoder sees a smaller image (docs/inference.md).
model.encoder_side = 1600

# Known pixels are written from the trimap, so the network is trained on unknown pixels only.
model.criterion.fuse_trimap = True
model.criterion.losses = ["unknown_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty"]

_composition = dict(
    alpha_snap=3 / 255,  # for strands that nearly cover a body
    trimap_size=None,
    double_foreground_prob=0.2,
    double_foreground="exact",
    resize640_prob=0.0,
    interpolation="linear",
    affine=L(AffineRange)(rotation_min_side=0),
    pairing="random",
    cache_backgrounds=True,
    realism=L(Realism)(),
)

dataloader = OmegaConf.create()
dataloader.train = L(build_train_loader)(
    dataset=L(CompositionDataset)(
        root=None,
        samples_per_epoch=43100,
        seed="${train.seed}",
        crop_size=CROP,
        **_composition,
    ),
    batch_size=BATCH,
    num_workers=15,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
    late_start=ITERATIONS * 3 // 4,
    late_crop_size=448,
    late_batch_size=20,
)

# Rendered and drawn foregrounds of another seed, in composites of another seed.
_validation = "${dataloader.train.dataset.root}/validation"
dataloader.test = L(EightBit)(
    dataset=L(CompositionDataset)(
        fg_dir=f"{_validation}/fg",
        alpha_dir=f"{_validation}/alpha",
        bg_dir="${dataloader.train.dataset.root}/bg",
        samples_per_epoch=32,
        seed=1_000_003,
        crop_size=320,
        **_composition,
    )
)

train.output_dir = "./output/box"
train.max_iter = ITERATIONS
train.amp.dtype = "bf16"
train.clip_grad_norm = 1.0
train.ema_decay = 0.999
train.checkpointer.period = 2000
train.checkpointer.max_to_keep = 1
train.eval_period = 3500
train.log_period = 50

optimizer._target_ = MuonAdamW
optimizer.lr = 2.5e-3
optimizer.weight_decay = 0.05
optimizer.params.layer_decay = 1.0  # nothing is pretrained
optimizer.params.muon_for_new = True
optimizer.params.all_new = True

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_length=0.025,
    warmup_factor=0.01,
)
