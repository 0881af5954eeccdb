"""Sinks: how a prediction is written, by the name of the output."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from data.images.files import write_png
from modeling.meta_arch.base import System

Arrays = Mapping[str, np.ndarray]


def _write_alpha(path: Path, predicted: Arrays, model: System) -> None:
    write_png(path, predicted["alpha"])


def _write_mask(path: Path, predicted: Arrays, model: System) -> None:
    """Gray levels: 0 and 255 of two classes, else the indexes of the classes."""
    write_png(path, predicted["mask"] * np.uint8(255 if model.num_classes == 2 else 1))


# Each writes the arrays of a system's prediction to a path, whole or not at all.
SINKS: dict[str, Callable[[Path, Arrays, System], None]] = {"alpha": _write_alpha, "mask": _write_mask}
