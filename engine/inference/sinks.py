"""Sinks: functions that write the outputs of a prediction, by the kind of output."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from data.images.files import write_png
from data.images.foreground_colours import estimate_foreground
from data.images.writing import write_picture
from modeling.meta_arch.base import System

STRIP_STEPS = 10  # largest number of steps in the strip
STRIP_SIDE = 256  # longest side of a picture in the strip, in pixels

LEVELS_APART = 64  # smallest difference between gray levels that survives the compression of a video

Predicted = Mapping[str, np.ndarray]


def _alpha(predicted: Predicted, model: System) -> np.ndarray:
    return predicted["alpha"]


def _rgba(predicted: Predicted, model: System) -> np.ndarray:
    """Estimated foreground colours, not premultiplied, with alpha."""
    alpha, colours = predicted["alpha"], predicted.get("foreground")  # uint8, or floats in [0, 1]
    if colours is None:
        colours = estimate_foreground(predicted["image"], alpha)
    return np.dstack([colours, alpha])


def _trimap(predicted: Predicted, model: System) -> np.ndarray:
    return predicted["trimap"]


def _composite(predicted: Predicted, model: System) -> np.ndarray:
    return predicted["composite"]


def _mask(predicted: Predicted, model: System) -> np.ndarray:
    """Label values of the classes as gray levels."""
    return model.classes.to_values(predicted["mask"])


def _colours(predicted: Predicted, model: System) -> np.ndarray:
    return model.classes.colour_map(predicted["mask"])


def _overlay(predicted: Predicted, model: System) -> np.ndarray:
    return model.classes.overlay(predicted["image"], predicted["mask"])


def _write_picture(
    picture: Callable[[Predicted, System], np.ndarray],
    path: Path,
    predicted: Predicted,
    model: System,
    bits: int | None = None,
    profile: bytes | None = None,
) -> None:
    write_picture(path, picture(predicted, model), bits, profile)


def _write_steps(
    path: Path, predicted: Predicted, model: System, bits: int | None = None, profile: bytes | None = None
) -> None:
    """Write a strip of the steps, with noisy alphas above and estimates below, and a picture of each beside it."""
    noisy, estimates = predicted["steps"][..., ::2], predicted["steps"][..., 1::2]  # (H, W, N)
    steps = noisy.shape[-1]
    for earlier in path.parent.glob("step_*_*.png"):  # from a run with another number of steps
        if re.fullmatch(r"step_\d+_(noisy|estimate)\.png", earlier.name):
            earlier.unlink()
    for index in range(steps):
        for kind, pictures in (("noisy", noisy), ("estimate", estimates)):
            write_png(path.with_name(f"step_{index + 1:0{len(str(steps))}}_{kind}.png"), pictures[..., index])
    shown = np.linspace(0, steps - 1, min(steps, STRIP_STEPS)).round().astype(int)
    rows = [np.hstack([_small(pictures[..., index]) for index in shown]) for pictures in (noisy, estimates)]
    write_png(path, np.vstack(rows))  # last, so that its existence means that all are written


def _small(picture: np.ndarray) -> np.ndarray:
    scale = STRIP_SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


# Functions from a system's prediction to a picture (H, W), (H, W, 3) or (H, W, 4), by kind. For the kinds in
# `SHOW_IMAGE`, "image" is among the arrays. The frames of a video are made by the same functions.
PICTURES: dict[str, Callable[[Predicted, System], np.ndarray]] = {
    "alpha": _alpha,
    "rgba": _rgba,
    "trimap": _trimap,
    "composite": _composite,
    "mask": _mask,
    "colours": _colours,
    "overlay": _overlay,
}
# Functions that write the arrays of a system's prediction to a path, complete or not at all. Further arguments are the
# bits per channel (None for the default of the format) and the ICC profile of the colours.
SINKS: dict[str, Callable[[Path, Predicted, System, int | None, bytes | None], None]] = {
    **{kind: partial(_write_picture, picture) for kind, picture in PICTURES.items()},
    "steps": _write_steps,
}
# Prediction that a kind shows, if its name differs from the kind's
MADE_OF = {"rgba": "alpha", "colours": "mask", "overlay": "mask"}
SHOW_IMAGE = frozenset({"rgba", "overlay"})
TRANSPARENT = frozenset({"rgba"})
SHOW_COLOURS = SHOW_IMAGE | {"composite"}  # kinds with the image's colours, which are written with its ICC profile
IN_FULL_DEPTH = frozenset({"alpha", "rgba"})  # the other kinds are made from 8-bit levels or labels
ON_REQUEST = frozenset({"steps"})  # kinds with their own command-line option


def needs_exact_levels(kind: str, model: System) -> bool:
    """Whether compression of a video would damage a kind, namely a mask whose label values are close to each other."""
    return kind == "mask" and int(np.diff(np.sort(model.classes.values.astype(int))).min()) < LEVELS_APART


def kinds_of(model: System) -> list[str]:
    """Kinds of files that can be made from the predictions of a system."""
    return [kind for kind in SINKS if MADE_OF.get(kind, kind) in model.outputs and kind not in ON_REQUEST]
