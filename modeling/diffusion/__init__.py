"""Diffusion of alpha mattes: noise schedules, the process, and its samplers."""

from .process import GaussianDiffusion
from .strategy import Strategy

__all__ = ["GaussianDiffusion", "Strategy"]
