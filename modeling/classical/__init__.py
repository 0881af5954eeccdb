"""Matting without weights."""

from modeling.classical.closed_form import closed_form_alpha

__all__ = ["closed_form_alpha"]
