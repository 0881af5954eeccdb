"""A small segmentation network that learns the subjects of procedural composites, from random weights.

    python main.py --config-file configs/SubjectSeg_demo.py
    python tools/auto_matte.py PICTURE --output MATTE --seg output/SubjectSeg_demo/model_final.pth

It is the network of configs/PersonSeg_demo.py on whole scenes of SyntheticMatting: the first link of the chain from a
picture to a matte without a trimap.
"""

from detectron2.config import LazyCall as L

from data.synthetic import SubjectMasks, SyntheticMatting
from data.testing.eight_bit import EightBit

from .PersonSeg_demo import dataloader, lr_multiplier, model, optimizer, train

model.classes[1].name = "subject"
model.backbone.img_size = 96
model.backbone.pretrain_img_size = 96
model.max_side = 128

dataloader.train.dataset = L(SubjectMasks)(
    dataset=L(SyntheticMatting)(size=96, samples_per_epoch=100_000, seed="${train.seed}", scene_size=[96, 144])
)
dataloader.test = L(EightBit)(
    dataset=L(SubjectMasks)(
        dataset=L(SyntheticMatting)(size=128, samples_per_epoch=32, seed=1_000_003, scene_size=[128, 192])
    )
)

train.output_dir = "./output/SubjectSeg_demo"
