"""Monitoring of a run: scalars, pictures and histograms, their writers, and the records in the run folder."""

from engine.monitoring.batches import ObservedBatches
from engine.monitoring.curves import DrawCurves
from engine.monitoring.environment import record_environment
from engine.monitoring.error_by_share import ErrorByUnknownShare
from engine.monitoring.panels import FirstBatchPanel, TrainingPictures, write_panels
from engine.monitoring.run_scalars import RunScalars
from engine.monitoring.training_scores import TrainingScores
from engine.monitoring.writers import RunWriters, build_writers, close_quietly_at_exit

__all__ = [
    "DrawCurves",
    "ErrorByUnknownShare",
    "FirstBatchPanel",
    "ObservedBatches",
    "RunScalars",
    "RunWriters",
    "TrainingPictures",
    "TrainingScores",
    "build_writers",
    "close_quietly_at_exit",
    "record_environment",
    "write_panels",
]
