"""Systems: the contract, and networks that fulfil it; these are imported when they are asked for."""

import importlib
from typing import TYPE_CHECKING, Any

from modeling.meta_arch.base import ParameterRoles, System
from modeling.meta_arch.footprint import Footprint

if TYPE_CHECKING:
    from modeling.meta_arch.diffmatte import DiffMatte
    from modeling.meta_arch.segmentation import Segmentation
    from modeling.meta_arch.vitmatte import ViTMatte

__all__ = ["DiffMatte", "Footprint", "ParameterRoles", "Segmentation", "System", "ViTMatte"]


def __getattr__(name: str) -> Any:
    if name in ("DiffMatte", "Segmentation", "ViTMatte"):
        return getattr(importlib.import_module(f"modeling.meta_arch.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
