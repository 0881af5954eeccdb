"""Inference: from images and videos to mattes and masks, within a budget of memory."""

from engine.inference.clips import ClipJobs, clip_jobs, predict_clip, settings_of
from engine.inference.jobs import Job, Outcome, fit_to, is_clip, plan_composition1k, plan_files, read_inputs, with_steps
from engine.inference.pipeline import run_jobs
from engine.inference.predict import Predictor, predict_alpha

__all__ = [
    "ClipJobs",
    "Job",
    "Outcome",
    "Predictor",
    "clip_jobs",
    "fit_to",
    "is_clip",
    "plan_composition1k",
    "plan_files",
    "predict_alpha",
    "predict_clip",
    "read_inputs",
    "run_jobs",
    "settings_of",
    "with_steps",
]
