"""A linear warm-up followed by steps. A config sets the factors, their iterations, and the length of the warm-up."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.05],
        milestones=[30, 90],
        num_updates=100,
    ),
    warmup_length=250 / 100_000,  # share of all iterations
    warmup_factor=0.001,
)
