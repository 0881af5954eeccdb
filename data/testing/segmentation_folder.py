"""Folders of pictures with masks of the same names, for validation."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.images.classes import MASK_MODES, Classes, read_mask
from data.images.files import images_by_stem, read_rgb
from data.images.pairing import fitted
from data.images.scan import require_none, size_mismatches, unpaired
from data.images.segmentation_files import find_split, set_problems
from data.testing.listed_files import ListedFiles
from runtime.errors import InputError, require_choice


class SegmentationFolder(ListedFiles):
    """Pictures and their masks at their own size, matched and sorted by name without extension.

    The folders are listed at first use; the paths of an item are a pair, see `files`.

    Args:
        root: folder with `valid_images` and `valid_masks`; None for the environment variable
            DINOMATTE_SEGMENTATION_ROOT, unless `image_dir` and `mask_dir` are given.
        image_dir, mask_dir: the two folders, instead of a root.
        classes, mask_mode: see `data.images.classes`.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        image_dir: str | os.PathLike | None = None,
        mask_dir: str | os.PathLike | None = None,
        *,
        classes: Sequence[Mapping[str, Any]],
        mask_mode: str = "ids",
    ) -> None:
        require_choice("mask_mode", mask_mode, MASK_MODES)
        self.root, self.image_dir, self.mask_dir = root, image_dir, mask_dir
        self.classes, self.mask_mode = Classes(classes), mask_mode

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return item `index`: name, image (H, W, 3) uint8 RGB, mask (H, W) uint8 class indexes, 255 for no class.

        Raises:
            InputError: an unreadable file, unknown values, or a mask of another size than its picture.
        """
        pair = self.files()[index]
        image, mask = read_rgb(pair[0]), read_mask(pair[1], self.classes, self.mask_mode)
        if mask.shape != image.shape[:2]:
            raise InputError(size_mismatches([pair])[0])
        return {"name": pair[0].stem, "image": image, "mask": mask}

    def problems(self, decode: bool = False) -> list[str]:
        """One line for each unusable file; with `decode`, also for masks with unknown values."""
        return set_problems(self.folders(), [m for _, m in self.files()], self.classes, self.mask_mode, decode)

    def folders(self) -> tuple[Path, Path]:
        """Folders of pictures and of masks."""
        return find_split("valid", self.root, self.image_dir, self.mask_dir)

    def _list_files(self) -> list[tuple[Path, Path]]:
        image_dir, mask_dir = self.folders()
        images = images_by_stem(image_dir)
        masks = fitted(images, images_by_stem(mask_dir), "mask")
        if not images:
            raise InputError(f"{image_dir}: expected pictures, found none")
        require_none(unpaired(images, image_dir, masks, mask_dir), "every picture needs a mask with its name")
        return [(images[stem], masks[stem]) for stem in images]
