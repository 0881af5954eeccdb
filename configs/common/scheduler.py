"""A linear warm-up into steps, stated in iterations."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

IMAGES_PER_EPOCH = 43100  # Deep Image Matting: 431 foregrounds x 100 backgrounds


def iterations(epochs, images_per_iteration):
    """Iterations of so many epochs, rounded down as hustvl/ViTMatte's configs do."""
    return int(IMAGES_PER_EPOCH * epochs / images_per_iteration)


def step_schedule(max_iter, factors, milestones, warmup_iterations):
    """Learning-rate factors that change at `milestones` (iterations), after a linear rise from 0.001."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(values=factors, milestones=milestones, num_updates=max_iter),
        warmup_length=warmup_iterations / max_iter,
        warmup_factor=0.001,
    )
