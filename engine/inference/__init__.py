"""From image and trimap files to mattes: which files, how within memory, and without keeping the model waiting."""

from engine.inference.jobs import Job, Outcome, plan_composition1k, plan_files, read_pair
from engine.inference.pipeline import run_jobs
from engine.inference.predict import Predictor, predict_alpha

__all__ = ["Job", "Outcome", "Predictor", "plan_composition1k", "plan_files", "predict_alpha", "read_pair", "run_jobs"]
