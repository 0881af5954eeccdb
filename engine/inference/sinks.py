"""Sinks: functions that write the outputs of a prediction, by the kind of output."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.images.files import write_png
from data.images.writing import write_picture

if TYPE_CHECKING:
    from data.images.backgrounds import Background
    from modeling.meta_arch.base import System

STRIP_STEPS = 10  # largest number of steps in the strip
STRIP_SIDE = 256  # longest side of a picture in the strip, in pixels

LEVELS_APART = 64  # smallest difference between gray levels that survives the compression of a video

Predicted = Mapping[str, np.ndarray]


def _alpha(predicted: Predicted, model: "System") -> np.ndarray:
    return predicted["alpha"]


def _rgba(predicted: Predicted, model: "System") -> np.ndarray:
    """Estimated foreground colours under their alpha, not premultiplied."""
    return np.dstack([predicted["foreground"], predicted["alpha"]])  # uint8, or floats in [0, 1]


def _trimap(predicted: Predicted, model: "System") -> np.ndarray:
    return predicted["trimap"]


def _composite(predicted: Predicted, model: "System") -> np.ndarray:
    from data.images.foreground_colours import composite_over  # needs OpenCV, and plain mattes are written without

    return composite_over(*(predicted[name] for name in ("image", "alpha", "background", "foreground")))


def _mask(predicted: Predicted, model: "System") -> np.ndarray:
    """Label values of the classes as gray levels."""
    return model.classes.to_values(predicted["mask"])


def _colours(predicted: Predicted, model: "System") -> np.ndarray:
    return model.classes.colour_map(predicted["mask"])


def _overlay(predicted: Predicted, model: "System") -> np.ndarray:
    return model.classes.overlay(predicted["image"], predicted["mask"])


def _write_picture(
    picture: Callable[[Predicted, "System"], np.ndarray],
    path: Path,
    predicted: Predicted,
    model: "System",
    bits: int | None = None,
    profile: bytes | None = None,
    premultiplied: bool | None = None,
) -> None:
    write_picture(path, picture(predicted, model), bits, profile, premultiplied)


def _write_steps(path: Path, predicted: Predicted, model: "System", *settings: object) -> None:
    """Write a strip of the steps, noisy alphas above and estimates below, and a picture of each beside it."""
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
    import cv2

    scale = STRIP_SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    size = [max(1, round(side * scale)) for side in picture.shape[::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


# Functions that make the picture of a kind, (H, W), (H, W, 3) or (H, W, 4), from a system's prediction and the arrays
# that `with_colours` adds. The frames of a video are made in the same way.
PICTURES: dict[str, Callable[[Predicted, "System"], np.ndarray]] = {
    "alpha": _alpha,
    "rgba": _rgba,
    "trimap": _trimap,
    "composite": _composite,
    "mask": _mask,
    "colours": _colours,
    "overlay": _overlay,
}
# Functions that write a system's prediction atomically. Arguments: path, prediction, system, bits per channel (None for
# the default of the format), ICC profile of the colours, and whether the colours of a cut-out are multiplied by alpha.
SINKS: dict[str, Callable[[Path, Predicted, "System", int | None, bytes | None, bool | None], None]] = {
    **{kind: partial(_write_picture, picture) for kind, picture in PICTURES.items()},
    "steps": _write_steps,
}
# Prediction from which a kind is made, if it has another name
MADE_OF = {"rgba": "alpha", "composite": "alpha", "colours": "mask", "overlay": "mask"}
SHOW_IMAGE = frozenset({"rgba", "composite", "overlay"})  # whose ICC profile is theirs
TRANSPARENT = frozenset({"rgba"})
COLOURED = frozenset({"rgba", "composite"})  # show the foreground's colours
IN_FULL_DEPTH = frozenset({"alpha", "rgba", "composite"})  # the others are made of 8-bit levels or labels
ON_REQUEST = frozenset({"steps"})  # kinds with an option of their own


def with_colours(
    predicted: Predicted, kinds: Collection[str], background: "Background | None" = None, profile: bytes | None = None
) -> Predicted:
    """Add the colours that some kinds show to a prediction: those of the foreground and of the background.

    Args:
        predicted: "alpha" and "image" of a picture for kinds in `COLOURED`. The foreground's colours are estimated from
            its "deep_colours" if there are any; an existing "foreground" is used as it is.
        background: background of composites, white by default.
        profile: ICC profile of the image's colours.
    """
    if not COLOURED & set(kinds):
        return predicted
    from data.images.backgrounds import WHITE
    from data.images.foreground_colours import estimate_foreground

    added = {}
    if "foreground" not in predicted:
        added["foreground"] = estimate_foreground(seen_colours(predicted), predicted["alpha"])
    if "composite" in kinds:
        added["background"] = (background or WHITE).of_size(*predicted["alpha"].shape, profile)
    return {**predicted, **added}


def seen_colours(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Colours of a picture (H, W, 3) in the depth that its outputs need: float32, or the uint8 levels of its image."""
    return arrays.get("deep_colours", arrays["image"])


def needs_exact_levels(kind: str, model: "System") -> bool:
    """Return whether compression of a video would damage a kind, namely a mask whose label values are close to each
    other.
    """
    return kind == "mask" and int(np.diff(np.sort(model.classes.values.astype(int))).min()) < LEVELS_APART


def kinds_of(model: "System") -> list[str]:
    """Kinds of files that can be made from the predictions of a system."""
    return [kind for kind in SINKS if MADE_OF.get(kind, kind) in model.outputs and kind not in ON_REQUEST]
