"""A trimap-free system on procedural images, scored over the whole image."""

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from systems import TrimapFree

from engine.evaluation.evaluators import MattingEvaluator

dataloader, lr_multiplier, optimizer, train = LazyConfig.load_rel(
    "../../configs/ViTMatte_demo.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)

model = L(TrimapFree)()
dataloader.evaluator = L(MattingEvaluator)(region="whole")
