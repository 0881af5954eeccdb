"""A segmenting system of two classes on procedural images, scored by one confusion matrix."""

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from systems import Masks, TwoClasses

from engine.evaluation.evaluators import SegmentationEvaluator

dataloader, lr_multiplier, optimizer, train = LazyConfig.load_rel(
    "../../configs/ViTMatte_demo.py", ("dataloader", "lr_multiplier", "optimizer", "train")
)

model = L(TwoClasses)()
dataloader.train.dataset = L(Masks)(dataset=dataloader.train.dataset)
dataloader.test = L(Masks)(dataset=dataloader.test)
dataloader.evaluator = L(SegmentationEvaluator)(classes=2)
train.checkpointer.best_metric = "miou"
