from modeling.meta_arch.base import ParameterRoles, System
from modeling.meta_arch.footprint import Footprint
from modeling.meta_arch.vitmatte import ViTMatte

__all__ = ["Footprint", "ParameterRoles", "System", "ViTMatte"]
