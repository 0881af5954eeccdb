"""Inference: mattes and masks of images and videos, within a memory budget."""

from engine.inference.clips import ClipJobs, clip_jobs, predict_clip, settings_of
from engine.inference.jobs import (
    FileSettings,
    Job,
    Outcome,
    fit_to,
    needs_exact,
    plan_composition1k,
    plan_files,
    read_inputs,
    with_steps,
)
from engine.inference.matting import Matte, Matting
from engine.inference.pipeline import run_jobs
from engine.inference.predict import Predictor, predict_alpha
from engine.inference.sharing import Crew, SharedJobs

__all__ = [
    "ClipJobs",
    "Crew",
    "FileSettings",
    "Job",
    "Matte",
    "Matting",
    "Outcome",
    "Predictor",
    "SharedJobs",
    "clip_jobs",
    "fit_to",
    "needs_exact",
    "plan_composition1k",
    "plan_files",
    "predict_alpha",
    "predict_clip",
    "read_inputs",
    "run_jobs",
    "settings_of",
    "with_steps",
]
