"""Who runs the loop: training, validation, inference, checkpoints, processes."""

from engine import compat

compat.apply()
