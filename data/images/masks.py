"""Reading of a user's mask of an object: binary, soft, labels, or the alpha channel of a cut-out."""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.images.files import deep_to_uint8, is_deep, opened_image
from data.images.mattes import TRANSPARENT_BELOW
from runtime.errors import InputError

SOFT_FROM = 128  # the maximum of a soft mask is at least this level
MOST_LABELS = 64  # largest number of levels of a label map


class Mask(NamedTuple):
    """A mask and the coding that was detected.

    Attributes:
        values: (H, W) float32 in [0, 1]: 0 outside, 1 inside.
        kind: "binary", "soft" or "labels". The values of "binary" and "labels" are 0 and 1 only.
    """

    values: np.ndarray
    kind: str


def read_mask(path: str | os.PathLike) -> Mask:
    """Read a mask and detect its coding from its values.

    | file | read as |
    | --- | --- |
    | a pixel that is more than half transparent | its alpha channel: a cut-out of another program |
    | one or two gray levels | binary: zero is outside, in any depth (0 and 1, 0 and 255) |
    | integers of at most 64 levels, all below 128 | labels of classes or objects: zero is outside |
    | palette with colours | labels: index zero is outside |
    | other gray levels | soft: 0 to 255, or the full scale of 16-bit and float files |

    Raises:
        InputError: see `data.images.files.read_rgb`; a colour picture; a palette index of 255, which label maps use for
            unlabelled pixels.
    """
    with opened_image(path) as image:
        return mask_of_image(image, path)


def mask_of_image(image: Image.Image, path: str | os.PathLike) -> Mask:
    """Convert an upright picture to a mask; see `read_mask`.

    Args:
        path: its file, or its name for messages.
    """
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < TRANSPARENT_BELOW:
            return mask_of_levels(alpha)
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB"))
        if _is_gray(colours):
            return mask_of_levels(np.ascontiguousarray(colours[..., 0]))
        return _of_labels(np.asarray(image), path)
    if is_deep(image):
        exact = np.asarray(image)
        if np.issubdtype(exact.dtype, np.integer) and (two := _of_few_levels(exact)) is not None:
            return two
        return mask_of_levels(deep_to_uint8(image, path))
    if image.mode in ("L", "LA", "1"):
        return mask_of_levels(np.asarray(image.convert("L")))
    colours = np.asarray(image.convert("RGB"))
    if not _is_gray(colours):
        raise InputError(
            f"{path}: expected a mask (gray, labels, or a cut-out with an alpha channel), found a colour picture "
            "without transparency"
        )
    return mask_of_levels(np.ascontiguousarray(colours[..., 0]))


def mask_of_levels(levels: np.ndarray) -> Mask:
    few = _of_few_levels(levels)
    return few if few is not None else Mask(levels.astype(np.float32) / 255, "soft")


def _of_few_levels(levels: np.ndarray) -> Mask | None:
    """Binary mask or label map; None if the mask must be soft."""
    values = np.unique(levels)
    inside = (levels > 0).astype(np.float32)
    if len(values) == 1 or (len(values) == 2 and values[0] == 0):
        return Mask(inside, "binary")
    if len(values) <= MOST_LABELS and values.min() >= 0 and values.max() < SOFT_FROM:
        return Mask(inside, "labels")
    return None


def _of_labels(indices: np.ndarray, path: str | os.PathLike) -> Mask:
    if indices.max() == 255:
        raise InputError(
            f"{path}: expected a mask, found a label map with index 255 (not labelled); write the objects as a gray "
            "picture of 0 and 255"
        )
    return Mask((indices > 0).astype(np.float32), "labels")


def _is_gray(colours: np.ndarray) -> bool:
    return bool((colours == colours[..., :1]).all())
