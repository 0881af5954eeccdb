"""Extra full-resolution input channels for the decoder, computed from image and trimap without learning."""

from modeling.priors.stack import PriorStack

__all__ = ["PriorStack"]
