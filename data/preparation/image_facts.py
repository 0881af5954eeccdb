"""Facts about a file of a training set, from its header and from all of its pixels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.images.files import opened_image, read_header, read_rgb
from data.images.mattes import CodingError, matte_reading
from runtime.errors import InputError

GRAY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes of one channel
SAMPLED = 50_000  # number of pixels in which the most frequent colours are searched


@dataclass(frozen=True)
class ImageFacts:
    """Facts about any image.

    Args:
        size: (height, width), upright.
        format: Pillow's name of the format, such as "JPEG".
        mode: Pillow's name of the mode, such as "CMYK".
        orientation: EXIF orientation, 1 for upright.
        deep: whether a channel has more than 8 bits.
        pixels: SHA-256 of the decoded pixels.
    """

    size: tuple[int, int]
    format: str
    mode: str
    orientation: int
    deep: bool
    pixels: str


@dataclass(frozen=True)
class PhotographFacts(ImageFacts):
    """`two_colours`: share of the visible pixels with one of the two most frequent colours, 0..1."""

    two_colours: float


@dataclass(frozen=True)
class AlphaFacts(ImageFacts):
    """Facts about a matte.

    Args:
        lowest, highest: extremes of its levels, 0..255.
        soft: share of pixels between 0 and 255.
        ringing: share of pixels one or two levels from 0 or 255.
        gray: whether its colour channels are equal.
        opaque: whether it has no transparency of its own.
        remark: remark on an unusual file, see `data.images.mattes`.
    """

    lowest: int
    highest: int
    soft: float
    ringing: float
    gray: bool
    opaque: bool
    remark: str


class Unusable(NamedTuple):
    """Reason why a file has no facts.

    Attributes:
        kind: one of `data.preparation.findings.KINDS`.
        text: description, which starts with the path.
        cure: remedy for this file; empty for the usual one of its kind.
    """

    kind: str
    text: str
    cure: str = ""


def inspect_files(files: Mapping[str, Path]) -> dict[str, ImageFacts | Unusable]:
    """Decode files that belong together: "alpha" and "image" (either may be missing), or others.

    Returns:
        For each key the facts, or the reason why the file cannot be read.
    """
    facts: dict[str, ImageFacts | Unusable] = {}
    alpha = None
    if "alpha" in files:
        facts["alpha"], alpha = _attempt(_inspect_alpha, files["alpha"])
    for key, path in files.items():
        if key != "alpha":
            facts[key], _ = _attempt(lambda path: _inspect_photograph(path, alpha), path)
    return facts


def _attempt(inspect, path: Path) -> tuple[ImageFacts | Unusable, np.ndarray | None]:
    try:
        return inspect(path)
    except CodingError as error:
        return Unusable(f"alpha-{error.kind}", error.message, error.remedy), None
    except InputError as error:
        return Unusable("unreadable", str(error)), None


def _inspect_photograph(path: Path, alpha: np.ndarray | None) -> tuple[PhotographFacts, np.ndarray]:
    image = read_rgb(path)
    visible = image[alpha > 0] if alpha is not None and alpha.shape == image.shape[:2] else image.reshape(-1, 3)
    return PhotographFacts(**_header(path, image), two_colours=_share_of_two_colours(visible)), image


def _inspect_alpha(path: Path) -> tuple[AlphaFacts, np.ndarray]:
    alpha, remark = matte_reading(path)
    counts = np.bincount(alpha.ravel(), minlength=256) / alpha.size
    header = _header(path, alpha)
    is_gray = header["mode"] in GRAY_MODES or (not header["mode"] and header["deep"])
    gray, opaque = (True, True) if is_gray else _channels_agree(path)
    levels = np.flatnonzero(counts)
    facts = AlphaFacts(
        **header,
        lowest=int(levels[0]),
        highest=int(levels[-1]),
        soft=float(counts[1:255].sum()),
        ringing=float(counts[[1, 2, 253, 254]].sum()),
        gray=gray,
        opaque=opaque,
        remark=remark,
    )
    return facts, alpha


def _header(path: Path, pixels: np.ndarray) -> dict:
    header = read_header(path)
    return {
        "size": pixels.shape[:2],
        "format": header.format,
        "mode": header.mode,
        "orientation": header.orientation,
        "deep": header.deep,
        "pixels": hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest(),
    }


def _channels_agree(path: Path) -> tuple[bool, bool]:
    """Return whether the colour channels of a file are equal, and whether it is opaque."""
    with opened_image(path) as image:
        channels = np.asarray(image.convert("RGBA"))
    return bool((channels[..., :3] == channels[..., :1]).all()), bool((channels[..., 3] == 255).all())


def _share_of_two_colours(colours: np.ndarray) -> float:
    """Share of the two most frequent of (N, 3) uint8 colours, found in a sample; 0 without colours."""
    if not len(colours):
        return 0.0
    red, green, blue = colours.astype(np.uint32).T
    packed = (red << 16) | (green << 8) | blue
    values, counts = np.unique(packed[:: -(-len(packed) // SAMPLED)], return_counts=True)
    first, second = values[np.argsort(counts)[[-1, -min(2, len(values))]]]
    return float(((packed == first) | (packed == second)).mean())
