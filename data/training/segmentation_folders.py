"""Training samples for segmentation from folders of pictures and masks of the same names."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from data.images.classes import MASK_MODES, Classes, read_mask
from data.images.files import images_by_stem, read_rgb
from data.images.scan import size_mismatches
from data.images.segmentation_files import find_split, set_problems
from data.training.repeatable import Pairs, RepeatableDataset
from data.transforms.geometry import Size, crop_map, read_through, resize_map
from runtime.errors import InputError, require_choice

OUTSIDE = (124, 116, 104)  # RGB beyond the picture: ImageNet's mean, close to 0 after normalisation


@dataclass(frozen=True)
class SegmentationRecipe:
    """Settings of the random draws of a sample. The picture keeps its proportions.

    Args:
        crop_size: side of the square sample, or (height, width), in pixels.
        scale: smallest and largest ratio to the size at which the picture just fits into the crop; drawn log-uniformly.
        flip_prob: probability of mirroring left and right.
        rotation: largest angle to either side in degrees.
        brightness: largest change in either direction, as a share of the full range.
        contrast: largest change of the differences from middle gray in either direction, as a share.

    Raises:
        InputError: a setting is out of its range.
    """

    crop_size: int | Sequence[int]
    scale: tuple[float, float] = (0.75, 1.5)
    flip_prob: float = 0.5
    rotation: float = 25.0
    brightness: float = 0.15
    contrast: float = 0.2

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError(f"crop_size: expected a side or (height, width), got {self.crop_size}")
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1]):
            raise InputError(f"scale: expected 0 < smallest <= largest, got {tuple(self.scale)}")
        if not (0 <= self.flip_prob <= 1 and 0 <= self.rotation <= 180):
            raise InputError(
                f"expected flip_prob of 0 to 1 and rotation of 0 to 180, got {self.flip_prob} and {self.rotation}"
            )
        if not (0 <= self.brightness < 1 and 0 <= self.contrast < 1):
            raise InputError(
                f"expected brightness and contrast of 0 to below 1, got {self.brightness} and {self.contrast}"
            )

    @property
    def size(self) -> Size:
        """Height and width of a sample."""
        return (self.crop_size,) * 2 if isinstance(self.crop_size, int) else tuple(self.crop_size)


@dataclass(frozen=True)
class Draw:
    """One draw.

    Attributes:
        scale: ratio to the size at which the picture fits.
        angle: rotation in degrees, counter-clockwise.
        place: position of the picture in the crop, or of the crop in a larger picture, as shares down and across.
        gain: factor on the levels about middle gray.
        lift: addition to the levels, which are in [0, 1].
    """

    scale: float = 1.0
    flip: bool = False
    angle: float = 0.0
    place: tuple[float, float] = (0.5, 0.5)
    gain: float = 1.0
    lift: float = 0.0


def draw_sample(recipe: SegmentationRecipe, rng: np.random.Generator) -> Draw:
    """Draw all random numbers of a sample; their number is always the same."""
    low, high = np.log(recipe.scale)
    return Draw(
        scale=float(np.exp(rng.uniform(low, high))),
        flip=bool(rng.random() < recipe.flip_prob),
        angle=float(rng.uniform(-recipe.rotation, recipe.rotation)),
        place=(float(rng.random()), float(rng.random())),
        gain=1 + float(rng.uniform(-recipe.contrast, recipe.contrast)),
        lift=float(rng.uniform(-recipe.brightness, recipe.brightness)),
    )


def make_sample(image: np.ndarray, mask: np.ndarray, drawn: Draw, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Make the crop that `drawn` describes.

    Args:
        image: (h, w, 3) uint8.
        mask: (h, w) uint8 class indexes, read by nearest pixel.
        size: (H, W) of the crop.

    Returns:
        Image (H, W, 3) float32 in [0, 1] and mask (H, W) uint8, with IGNORED beyond the picture.
    """
    original = mask.shape
    factor = drawn.scale * min(side / length for side, length in zip(size, original, strict=True))
    scaled = tuple(max(1, round(length * factor)) for length in original)
    to_scaled = _to_scaled(drawn, scaled, size)
    to_original = resize_map(original, scaled) @ to_scaled
    if factor < 1:  # reduced by area first, because sampling alone would alias
        image = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_AREA)
    image_map = to_scaled if factor < 1 else to_original
    picture = read_through(image, image_map, size, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    labels = read_through(mask + np.uint8(1), to_original, size, cv2.INTER_NEAREST) - np.uint8(1)  # 0 - 1 is IGNORED
    inside = read_through(np.ones(original, np.uint8), to_original, size, cv2.INTER_NEAREST)
    levels = (picture.astype(np.float32) / 255 - 0.5) * drawn.gain + (0.5 + drawn.lift)
    outside = np.array(OUTSIDE, np.float32) / 255
    return np.where(inside[..., None] > 0, levels.clip(0, 1), outside).astype(np.float32), labels


def _to_scaled(drawn: Draw, scaled: Size, size: Size) -> np.ndarray:
    """Map from a pixel of the crop to one of the scaled picture: it is placed, then mirrored and rotated there."""
    top, left = (share * (length - side) for share, length, side in zip(drawn.place, scaled, size, strict=True))
    centre_y, centre_x = ((length - 1) / 2 for length in scaled)
    cos, sin = np.cos(np.radians(drawn.angle)), np.sin(np.radians(drawn.angle))
    mirror = -1 if drawn.flip else 1
    to_centre = np.array([[1, 0, -centre_x], [0, 1, -centre_y], [0, 0, 1]])
    turn = np.array([[mirror * cos, -mirror * sin, centre_x], [sin, cos, centre_y], [0, 0, 1]])
    return turn @ to_centre @ crop_map(top, left)


class SegmentationFolders(RepeatableDataset):
    """Pictures and masks, matched by their names without extension, in samples of one size.

    Position epoch * samples_per_epoch + index runs through the pictures in order, for every length of an epoch.

    Args:
        root: folder with `train_images` and `train_masks`; None for the environment variable
            DINOMATTE_SEGMENTATION_ROOT, unless `image_dir` and `mask_dir` are given.
        image_dir, mask_dir: the two folders, instead of a root.
        classes: see `data.images.classes.Classes`.
        mask_mode: "ids", "binary" or "colour", see `data.images.classes.read_mask`.
        samples_per_epoch: nominal length of an epoch.
        seed: seed of all samples, 0 or more.
        on_bad: "error" to raise for an unusable file, or "skip" to warn and draw other files instead.
        crop_size, scale, flip_prob, rotation, brightness, contrast: see SegmentationRecipe.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        image_dir: str | os.PathLike | None = None,
        mask_dir: str | os.PathLike | None = None,
        *,
        classes: Sequence[Mapping[str, Any]],
        mask_mode: str = "ids",
        samples_per_epoch: int = 1000,
        crop_size: int | Sequence[int] = 640,
        scale: tuple[float, float] = (0.75, 1.5),
        flip_prob: float = 0.5,
        rotation: float = 25.0,
        brightness: float = 0.15,
        contrast: float = 0.2,
        seed: int = 0,
        on_bad: str = "error",
    ) -> None:
        recipe = SegmentationRecipe(crop_size, tuple(scale), flip_prob, rotation, brightness, contrast)
        super().__init__(recipe, samples_per_epoch, seed, on_bad)
        require_choice("mask_mode", mask_mode, MASK_MODES)
        self.classes, self.mask_mode = Classes(classes), mask_mode
        self.root, self.image_dir, self.mask_dir = root, image_dir, mask_dir

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """Return sample `index` (epoch 0) or (epoch, index).

        Returns:
            image: (3, H, W) float32 RGB in [0, 1], not normalised.
            mask: (H, W) int64 class indexes; 255 for pixels without a class or beyond the picture.
            name: the picture's name without extension.

        Raises:
            IndexError: index outside 0 .. len - 1.
            InputError: no usable folders, or a bad file (see `on_bad`).
        """
        return super().__getitem__(key)

    def folders(self) -> tuple[Path, Path]:
        """Folders of pictures and of masks."""
        return find_split("train", self.root, self.image_dir, self.mask_dir)

    def problems(self, decode: bool = True) -> list[str]:
        """One line for each unusable file; with `decode`, also for masks with unknown values."""
        folders = self.folders()
        return set_problems(folders, images_by_stem(folders[1]).values(), self.classes, self.mask_mode, decode)

    def _list_files(self) -> Pairs:
        folders = self.folders()
        return Pairs(self.pairs_by_name(*folders, "picture", partner="mask"), f"{folders[0]}, {folders[1]}")

    def _sample(self, files: Pairs, epoch: int, index: int, attempt: int) -> dict[str, Tensor | str]:
        rng = self.generator(epoch, index, attempt)
        drawn = draw_sample(self.recipe, rng)
        pair = self.choose_pair(files.pairs, rng, epoch, index, attempt)
        image, mask = read_rgb(pair[0]), read_mask(pair[1], self.classes, self.mask_mode)
        if mask.shape != image.shape[:2]:
            raise InputError(size_mismatches([pair])[0])
        crop, labels = make_sample(image, mask, drawn, self.recipe.size)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))),
            "mask": torch.from_numpy(labels.astype(np.int64)),
            "name": pair[0].stem,
        }
