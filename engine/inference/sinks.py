"""Sinks: how a prediction is written, by the name of the output."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from data.images.files import write_png
from modeling.meta_arch.base import System

STRIP_STEPS = 10  # at most so many side by side
STRIP_SIDE = 256  # pixels, the longest side of a picture in the strip

Predicted = Mapping[str, np.ndarray]


def _write_alpha(path: Path, predicted: Predicted, model: System) -> None:
    write_png(path, predicted["alpha"])


def _write_mask(path: Path, predicted: Predicted, model: System) -> None:
    """Gray levels: the label values of the classes."""
    write_png(path, model.classes.to_values(predicted["mask"]))


def _write_colours(path: Path, predicted: Predicted, model: System) -> None:
    write_png(path, model.classes.colour_map(predicted["mask"]))


def _write_overlay(path: Path, predicted: Predicted, model: System) -> None:
    write_png(path, model.classes.overlay(predicted["image"], predicted["mask"]))


def _write_steps(path: Path, predicted: Predicted, model: System) -> None:
    """A strip of the trajectory, noisy alphas above and their estimates below, and beside it a picture of each."""
    noisy, estimates = predicted["steps"][..., ::2], predicted["steps"][..., 1::2]  # (H, W, N)
    steps = noisy.shape[-1]
    for earlier in path.parent.glob("step_*_*.png"):  # of a run with another number of steps
        if re.fullmatch(r"step_\d+_(noisy|estimate)\.png", earlier.name):
            earlier.unlink()
    for index in range(steps):
        for kind, pictures in (("noisy", noisy), ("estimate", estimates)):
            write_png(path.with_name(f"step_{index + 1:0{len(str(steps))}}_{kind}.png"), pictures[..., index])
    shown = np.linspace(0, steps - 1, min(steps, STRIP_STEPS)).round().astype(int)
    rows = [np.hstack([_small(pictures[..., index]) for index in shown]) for pictures in (noisy, estimates)]
    write_png(path, np.vstack(rows))  # last, so that it stands for all of them


def _small(picture: np.ndarray) -> np.ndarray:
    scale = STRIP_SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


# Each writes the arrays of a system's prediction to a path, whole or not at all; "image" is among them for those that
# show it.
SINKS: dict[str, Callable[[Path, Predicted, System], None]] = {
    "alpha": _write_alpha,
    "mask": _write_mask,
    "colours": _write_colours,
    "overlay": _write_overlay,
    "steps": _write_steps,
}
MADE_OF = {"colours": "mask", "overlay": "mask"}  # kinds of file that are not called after the prediction they show
SHOW_IMAGE = frozenset({"overlay"})
ON_REQUEST = frozenset({"steps"})  # what has an option of its own


def kinds_of(model: System) -> list[str]:
    """The kinds of file that can be made of what a system predicts."""
    return [kind for kind in SINKS if MADE_OF.get(kind, kind) in model.outputs and kind not in ON_REQUEST]
