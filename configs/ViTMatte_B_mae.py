"""The original ViTMatte-B: ViTDet's ViT-B/16 with relative positions, pretrained by MAE, and its schedule.

Mattes from the published weights, converted by preprocess.py (docs/weights.md):

    python preprocess.py --weights ViTMatte_B_Com.pth --output weights/vitmatte_b.pth
    python inference.py --config-file configs/ViTMatte_B_mae.py --checkpoint weights/vitmatte_b.pth \\
        --image IMAGE --trimap TRIMAP --output MATTE

Training, 100 epochs of Deep Image Matting, 10 images on each of 2 GPUs:

    python main.py --config-file configs/ViTMatte_B_mae.py --num-gpus 2 train.init_checkpoint=weights/mae_vitb16.pth
"""

from .common.dataloader import dataloader
from .common.model import model, original_backbone
from .common.optimizer import optimizer
from .common.scheduler import lr_multiplier
from .common.train import train

model.backbone = original_backbone(embed_dim=768, num_heads=12)
model.pixel_mean, model.pixel_std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # ImageNet, as for DINO and MAE
dataloader.train.batch_size = 10

train.output_dir = "./output/ViTMatte_B_mae"
train.max_iter = int(43100 / 10 / 2 * 100)  # 43100 = 431 foregrounds x 100 backgrounds
train.checkpointer.period = int(43100 / 10 / 2 * 10)

lr_multiplier.scheduler.values = [1.0, 0.1, 0.05]
lr_multiplier.scheduler.milestones = [int(43100 / 10 / 2 * 30), int(43100 / 10 / 2 * 90)]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 250 / train.max_iter
