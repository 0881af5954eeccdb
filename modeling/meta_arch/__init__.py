"""Systems: the contract, and networks that fulfil it. They are imported on first use."""

import importlib
from typing import TYPE_CHECKING, Any

from modeling.meta_arch.base import ParameterRoles, System
from modeling.meta_arch.footprint import Footprint

if TYPE_CHECKING:
    from modeling.meta_arch.diffmatte import DiffMatte
    from modeling.meta_arch.dim import DIM
    from modeling.meta_arch.frozen_dinov3 import FrozenDINOv3
    from modeling.meta_arch.segmentation import Segmentation
    from modeling.meta_arch.vitmatte import ViTMatte

_HOMES = {
    "DIM": "modeling.meta_arch.dim",
    "DiffMatte": "modeling.meta_arch.diffmatte",
    "FrozenDINOv3": "modeling.meta_arch.frozen_dinov3",
    "Segmentation": "modeling.meta_arch.segmentation",
    "ViTMatte": "modeling.meta_arch.vitmatte",
}
__all__ = ["DIM", "DiffMatte", "Footprint", "FrozenDINOv3", "ParameterRoles", "Segmentation", "System", "ViTMatte"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
