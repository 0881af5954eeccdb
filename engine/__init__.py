"""Running of systems: training, validation, inference, checkpoints, processes."""

from engine import detectron2_compat

detectron2_compat.apply()
