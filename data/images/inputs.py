"""Inputs of a prediction: the files of one picture, read by the same rules in every program."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.images.deep_colours import read_deep_colours
from data.images.files import read_photograph
from data.images.mattes import trimap_reading
from data.images.pairs import size_hint, turned_apart
from data.images.remarks import Remark
from runtime.errors import InputError


def read_files(
    files: Mapping[str, Path],
    transfer: str | None = None,
    remarks: list[Remark] | None = None,
    deep_colours: bool = False,
) -> dict[str, np.ndarray]:
    """Read the "image" of a prediction, and its "trimap" and "mask" if they are given.

    Args:
        transfer: the transfer of an image of floats, see `read_photograph`.
        remarks: list to which a remark is added for each file that was read in an unusual way.
        deep_colours: whether the colours of an image with more than 8 bits are read as floats too.

    Returns:
        image: (H, W, 3) uint8 RGB.
        deep_colours: (H, W, 3) float32, on request and if the image has them, see `read_deep_colours`.
        trimap: (H, W) uint8 of 0, 128 and 255.
        mask: (H, W) float32 in [0, 1].

    Raises:
        InputError: a file cannot be read, or the sizes differ.
    """
    arrays = {}
    for name, path in sorted(files.items()):  # the image is the first
        arrays[name], remark = _read(name, path, transfer)
        found = [remark]
        if name == "image" and deep_colours:
            deep, remark = read_deep_colours(path, transfer)
            arrays |= {} if deep is None else {"deep_colours": deep}
            found.append(remark)
        if name != "image":
            image = files["image"]
            if arrays[name].shape[:2] != arrays["image"].shape[:2]:
                raise InputError(
                    f"{path}: the {name} is {_size(arrays[name])}, its image {image} is {_size(arrays['image'])}"
                    + (size_hint(image, path) or f"; make the {name} at the image's size")
                )
            found.append(turned_apart(image, path))
        if remarks is not None:
            remarks += [Remark(name, text, str(path)) for text in found if text]
    return arrays


def _read(name: str, path: Path, transfer: str | None) -> tuple[np.ndarray, str]:
    if name == "image":
        return read_photograph(path, transfer)
    if name == "trimap":
        reading = trimap_reading(path)
        return reading[0], reading[1]
    from data.images.masks import read_mask  # needs OpenCV, and trimaps are read without

    return read_mask(path).values, ""


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
