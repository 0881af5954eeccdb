"""Inference: from image files to mattes and masks, within a budget of memory."""

from engine.inference.jobs import Job, Outcome, fit_to, plan_composition1k, plan_files, read_inputs, with_steps
from engine.inference.pipeline import run_jobs
from engine.inference.predict import Predictor, predict_alpha

__all__ = [
    "Job",
    "Outcome",
    "Predictor",
    "fit_to",
    "plan_composition1k",
    "plan_files",
    "predict_alpha",
    "read_inputs",
    "run_jobs",
    "with_steps",
]
