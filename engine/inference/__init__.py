"""Inference: mattes and masks of images and videos, within a memory budget.

The modules are imported when a name is used, because jobs are planned and written without PyTorch too (engine.onnx).
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "clips": ("ClipJobs", "clip_jobs", "predict_clip", "settings_of"),
    "jobs": (
        "FileSettings",
        "Job",
        "Outcome",
        "fit_to",
        "needs_exact",
        "plan_composition1k",
        "plan_files",
        "read_inputs",
        "with_steps",
    ),
    "matting": ("Matte", "Matting"),
    "pipeline": ("run_jobs",),
    "predict": ("Predictor", "predict_alpha"),
    "sharing": ("Crew", "SharedJobs"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
