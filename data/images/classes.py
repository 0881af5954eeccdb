"""Classes of a segmentation: names, colours and label values, and masks in these forms.

In memory a mask has class indexes, (H, W) uint8, and IGNORED where a pixel has no class. Files have label values
("ids"), zero and other values ("binary"), or colours ("colour").
"""

import colorsys
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.images.files import is_deep, opened_image
from runtime.errors import InputError, require_choice

IGNORED = 255  # value in memory, and in files of ids unless a class has this value
MASK_MODES = ("ids", "binary", "colour")
OPACITY = 0.5  # opacity of a class's colour over a picture
MOST_CLASSES = 254
_UNKNOWN = 254  # mark in the lookup table for values without a class
_LARGEST_VALUE = 65535  # largest value in 16-bit files
_SHOWN = 4


class Classes:
    """Classes of a data set and of the network that is trained on it. The first class is the background.

    Args:
        entries: a mapping for each class, in the order of the indexes: "name", "colour" (R, G, B in 0..255) and
            "value", its label in mask files (0..65535).

    Raises:
        InputError: fewer than two classes, a field is missing or out of range, or two classes share a name, a colour or
            a value.

    Example:
        >>> classes = Classes([dict(name="background", colour=[0, 0, 0], value=0),
        ...                    dict(name="person", colour=[0, 255, 0], value=1)])
        >>> classes.colour_map(np.array([[0, 1]], np.uint8)).tolist()
        [[[0, 0, 0], [0, 255, 0]]]
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        if not 2 <= len(entries) <= MOST_CLASSES:
            raise InputError(f"classes: expected 2 to {MOST_CLASSES}, got {len(entries)}")
        for entry in entries:
            _check_entry(entry)
        self.names = [str(entry["name"]) for entry in entries]
        self.colours = np.array([list(entry["colour"]) for entry in entries], np.uint8)  # (K, 3) RGB
        self.values = np.array([entry["value"] for entry in entries], np.uint16)  # (K,)
        for field, given in (("name", self.names), ("colour", self.colours.tolist()), ("value", self.values.tolist())):
            for index, value in enumerate(given):
                if value in given[:index]:
                    first = self.names[given.index(value)]
                    raise InputError(
                        f"classes: {first} and {self.names[index]} share the {field} {value}; give each its own"
                    )

    @classmethod
    def numbered(cls, number: int) -> "Classes":
        """Create classes without names. Two classes have values 0 and 255, more have their indexes as values."""
        hues = [(1 / 3 + 0.618034 * index) % 1 for index in range(number - 1)]
        colours = [[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 1, 1)] for hue in hues]
        values = (0, 255) if number == 2 else range(number)
        return cls(
            [
                {"name": f"class {index}", "colour": colour, "value": value}
                for index, (colour, value) in enumerate(zip([[0, 0, 0], *colours], values, strict=True))
            ]
        )

    def __len__(self) -> int:
        return len(self.names)

    def from_values(self, values: np.ndarray) -> np.ndarray:
        """Convert label values (H, W) to class indexes (H, W) uint8.

        Raises:
            InputError: a value belongs to no class.
        """
        table = np.full(_LARGEST_VALUE + 1, _UNKNOWN, np.uint8)
        table[IGNORED] = IGNORED
        table[self.values] = np.arange(len(self), dtype=np.uint8)
        mask = table[values]
        unknown = mask == _UNKNOWN
        if unknown.any():
            listed = ", ".join(f"{value} ({name})" for name, value in zip(self.names, self.values, strict=True))
            raise InputError(f"unknown values {_some(values[unknown])}; expected {listed}, or {IGNORED} for no class")
        return mask

    def from_colours(self, picture: np.ndarray) -> np.ndarray:
        """Convert colours (H, W, 3) uint8 to class indexes (H, W) uint8.

        Raises:
            InputError: a colour belongs to no class.
        """
        own, codes = _codes(self.colours), _codes(picture)
        order = np.argsort(own)
        place = np.searchsorted(own[order], codes).clip(max=len(self) - 1)
        unknown = own[order][place] != codes
        if unknown.any():
            listed = ", ".join(
                f"{tuple(colour)} ({name})" for name, colour in zip(self.names, self.colours.tolist(), strict=True)
            )
            found = _some([tuple(colour) for colour in np.unique(picture[unknown], axis=0).tolist()])
            raise InputError(
                f"unknown colours {found}; expected {listed}. A file that was compressed or resized has mixed colours"
            )
        return order.astype(np.uint8)[place]

    def to_values(self, mask: np.ndarray) -> np.ndarray:
        """Convert class indexes to label values (H, W), uint8, or uint16 if a value exceeds 255."""
        return self.values.astype(np.uint8 if self.values.max() < 256 else np.uint16)[mask]

    def colour_map(self, mask: np.ndarray) -> np.ndarray:
        """Convert class indexes to colours (H, W, 3) uint8, white where a pixel has no class."""
        table = np.full((256, 3), 255, np.uint8)
        table[: len(self)] = self.colours
        return table[mask]

    def overlay(self, image: np.ndarray, mask: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
        """Blend the colours of the classes over a picture, (H, W, 3) uint8. The background class is not coloured.

        The result is (1 - opacity) * image + opacity * colour, which cannot saturate.
        """
        share = np.where(mask == 0, 0, opacity).astype(np.float32)[..., None]
        return np.rint(image * (1 - share) + self.colour_map(mask) * share).astype(np.uint8)


def read_mask(path: str | os.PathLike, classes: Classes, mode: str = "ids") -> np.ndarray:
    """Read a mask file as class indexes, (H, W) uint8, IGNORED where a pixel has no class.

    Args:
        mode: "ids" reads label values (of palette files the indexes), which may include IGNORED; "binary" reads every
            value above 0, such as an instance number, as the second of two classes; "colour" reads colours.

    Raises:
        InputError: the file is not a readable picture, has several channels instead of values, or has a value or
            colour that belongs to no class. The message names the file.
    """
    require_choice("mask_mode", mode, MASK_MODES)
    if mode == "binary" and len(classes) != 2:
        raise InputError(f"mask_mode binary: expected two classes, got {len(classes)}; use ids or colour")
    with opened_image(path) as image:
        pixels = np.asarray(image.convert("RGB")) if mode == "colour" else _values(image, path)
    try:
        if mode == "colour":
            return classes.from_colours(pixels)
        return (pixels > 0).astype(np.uint8) if mode == "binary" else classes.from_values(pixels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _values(image, path: str | os.PathLike) -> np.ndarray:
    """Whole numbers (H, W) of a file with one channel or with equal channels."""
    if image.mode in ("L", "P", "1"):
        return np.asarray(image).astype(np.uint8, copy=False)
    if is_deep(image) and image.mode != "F":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > _LARGEST_VALUE:
            raise InputError(f"{path}: expected values from 0 to {_LARGEST_VALUE}, got {values.min()}..{values.max()}")
        return values
    if image.mode == "F":
        raise InputError(f"{path}: expected whole numbers as label values, found floating point; save 8 bits")
    channels = np.asarray(image.convert("RGBA"))
    if (channels[..., :3] != channels[..., :1]).any() or (channels[..., 3] != 255).any():
        raise InputError(f"{path}: expected label values in one channel, found colours; set mask_mode=colour")
    return channels[..., 0]


def _check_entry(entry: Mapping[str, Any]) -> None:
    fields = ("name", "colour", "value")
    if not isinstance(entry, Mapping) or set(entry) != set(fields):
        raise InputError(f"classes: expected {', '.join(fields)} of each, got {entry!r}")
    colour, value = entry["colour"], entry["value"]
    is_colour = isinstance(colour, Sequence) and len(colour) == 3
    if not is_colour or not all(_is_whole(level, 255) for level in colour):
        raise InputError(f"classes: expected three numbers from 0 to 255 as colour of {entry['name']}, got {colour}")
    if not _is_whole(value, _LARGEST_VALUE):
        raise InputError(f"classes: expected 0 to {_LARGEST_VALUE} as value of {entry['name']}, got {value!r}")


def _is_whole(number: Any, largest: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= largest


def _codes(colours: np.ndarray) -> np.ndarray:
    """Pack each colour (..., 3) uint8 into one number."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _some(values: Any) -> str:
    distinct = sorted(set(values.tolist() if isinstance(values, np.ndarray) else values))
    return ", ".join(map(str, distinct[:_SHOWN])) + (", ..." if len(distinct) > _SHOWN else "")
