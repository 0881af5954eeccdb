"""Inference: mattes and masks of images and videos, within a memory budget.

The modules are imported when a name is used, because jobs are planned and written without PyTorch too (engine.onnx).
"""

# ruff: noqa: F401

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not see names that __getattr__ imports
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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
