"""Priors: full-resolution input channels for the decoder, computed from image and trimap without learning."""

from modeling.priors.closed_form_prior import ClosedFormPrior
from modeling.priors.colour_prior import ColourPrior
from modeling.priors.stack import PriorStack

__all__ = ["ClosedFormPrior", "ColourPrior", "PriorStack"]
