"""Person segmentation on a frozen DINOv2 ViT-S/14: 22 million parameters, of which the 6,146 of the head are trained.

    python preprocess.py --weights dinov2_vits14_pretrain.pth --output weights/dinov2_vits14.pth
    python main.py --config-file configs/PersonSeg_DINOv2_S.py train.init_checkpoint=weights/dinov2_vits14.pth \\
        dataloader.train.dataset.root=DATA dataloader.test.root=DATA

30 epochs of 168 samples, the size of Penn-Fudan Pedestrian. With four registers (dinov2_vits14_reg4_pretrain.pth):
model.backbone.num_register_tokens=4 model.backbone.abs_pos_resize=antialias
"""

from .common.segmentation import dataloader, lr_multiplier, model, optimizer, train

train.output_dir = "./output/PersonSeg_DINOv2_S"
