"""A procedural matting data set: scenes whose alpha, foreground and background are known exactly."""

from data.synthetic.dataset import SyntheticMatting
from data.synthetic.layouts import write_composition1k_layout, write_dim_layout

__all__ = ["SyntheticMatting", "write_composition1k_layout", "write_dim_layout"]
