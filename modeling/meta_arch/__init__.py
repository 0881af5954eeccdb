from modeling.meta_arch.vitmatte import ViTMatte

__all__ = ["ViTMatte"]
