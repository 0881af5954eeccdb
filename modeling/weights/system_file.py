"""Reading a system from one file: the network that the file describes, with its weights."""

import os

import torch

from modeling.meta_arch.base import System
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from modeling.weights.shipped import BOX, read_model_file


def read_system(path: str | os.PathLike = BOX, device: str | torch.device = "cpu") -> System:
    """Build the system that a file describes, load its weights, and set it to eval mode.

    Args:
        path: checkpoint of a run (.pth) or shipped model (.json); by default the model in the box.
        device: device of the system.

    Raises:
        InputError: see `read_model_file`, `build_model` and `load_model`.

    Example:
        >>> model = read_system()
        >>> model.inputs
        ('image', 'trimap')
    """
    checkpoint = read_model_file(path)
    model = build_model(checkpoint, path)
    load_model(model, checkpoint, path)
    return model.to(device).eval()
