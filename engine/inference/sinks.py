"""Sinks: what is written of a prediction, and how."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.images.files import write_png
from modeling.meta_arch.base import System


class Sink(NamedTuple):
    """A kind of output file.

    Attributes:
        reads: the predicted array that it is made of.
        write: writes the arrays of a system's prediction to a path, whole or not at all.
    """

    reads: str
    write: Callable[[Path, Mapping[str, np.ndarray], System], None]


def _write_alpha(path: Path, arrays: Mapping[str, np.ndarray], model: System) -> None:
    write_png(path, arrays["alpha"])


def _write_mask(path: Path, arrays: Mapping[str, np.ndarray], model: System) -> None:
    """Gray levels: 0 and 255 of two classes, else the indexes of the classes."""
    write_png(path, arrays["mask"] * np.uint8(255 if model.num_classes == 2 else 1))


SINKS = {"alpha": Sink("alpha", _write_alpha), "mask": Sink("mask", _write_mask)}
