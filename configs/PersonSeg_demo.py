"""A small segmentation network that learns person-like figures in minutes on two CPU cores, from random weights.

    python main.py --config-file configs/PersonSeg_demo.py
    python inference.py --checkpoint output/PersonSeg_demo/model_best_miou.pth --image FILE_OR_DIR --output OUT \\
        --save mask,colours,overlay

The data are procedural; nothing is downloaded.
"""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf

from data.synthetic import SyntheticPeople
from data.testing.eight_bit import EightBit
from data.training.loader import build_train_loader

from .common.segmentation import dataloader, model, optimizer, train

model.backbone.patch_size = 8
model.backbone.img_size = 112
model.backbone.pretrain_img_size = 112
model.backbone.embed_dim = 96
model.backbone.depth = 4
model.backbone.num_heads = 3
model.backbone.layer_scale_init = 0.1
model.backbone.residual_block_indexes = [0, 1, 2, 3]  # from random weights, convolutions learn shapes faster
model.out_layers = [0, 1, 2, 3]
model.max_side = 256

evaluator = dataloader.evaluator
dataloader = OmegaConf.create()
dataloader.evaluator = evaluator
dataloader.train = L(build_train_loader)(
    dataset=L(SyntheticPeople)(size=112, samples_per_epoch=100_000, seed="${train.seed}"),
    batch_size=8,
    num_workers=1,
    seed="${train.seed}",
    accumulate="${train.accumulate}",
)
dataloader.test = L(EightBit)(dataset=L(SyntheticPeople)(size=112, samples_per_epoch=48, seed=1_000_003))

train.output_dir = "./output/PersonSeg_demo"
train.freeze = []
train.amp.enabled = False
train.max_iter = 1000
train.eval_period = 100
train.checkpointer.period = 500
train.clip_grad_norm = 1.0

optimizer.lr = 2e-3
optimizer.weight_decay = 0.05
optimizer.params.head_lr_mult = 1.0

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_length=30 / train.max_iter,
    warmup_factor=0.05,
)
