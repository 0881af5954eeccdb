"""Folders of pictures and masks: their location, and a check for unusable masks."""

import os
from collections.abc import Iterable
from pathlib import Path

from data.images.classes import Classes, read_mask
from data.images.scan import pair_problems
from runtime.errors import InputError

ROOT_VARIABLE = "DINOMATTE_SEGMENTATION_ROOT"  # environment variable that gives the root where the config does not


def find_split(
    split: str,
    root: str | os.PathLike | None,
    image_dir: str | os.PathLike | None,
    mask_dir: str | os.PathLike | None,
) -> tuple[Path, Path]:
    """Folders of pictures and masks: the given ones, or ROOT/SPLIT_images and ROOT/SPLIT_masks.

    Args:
        split: "train" or "valid".
        root: root folder; None for the environment variable DINOMATTE_SEGMENTATION_ROOT.

    Raises:
        InputError: no root is given, only one of the two folders is given, or a folder is missing.
    """
    if (image_dir is None) != (mask_dir is None):
        raise InputError(f"{split} data: image_dir and mask_dir belong together, got {image_dir} and {mask_dir}")
    if image_dir is not None:
        folders = Path(image_dir), Path(mask_dir)
    else:
        root = root or os.environ.get(ROOT_VARIABLE)
        if not root:
            raise InputError(
                f"no {split} data: set the data set's root, or the environment variable {ROOT_VARIABLE}, to a folder "
                "with train_images, train_masks, valid_images and valid_masks (docs/systems.md)"
            )
        folders = Path(root) / f"{split}_images", Path(root) / f"{split}_masks"
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(f"{', '.join(missing)}: expected folders of pictures and of masks, found none")
    return folders


def set_problems(folders: tuple[Path, Path], masks: Iterable[Path], classes: Classes, mode: str, decode: bool) -> list:
    """One line for each unusable file of a set; with `decode`, also for masks with unknown values."""
    lines = pair_problems(*folders, decode=decode, role="mask")
    if decode:
        lines += [line for path in masks if (line := _mask_problem(path, classes, mode)) is not None]
    return list(dict.fromkeys(lines))  # an unreadable mask is reported by both checks


def _mask_problem(path: Path, classes: Classes, mode: str) -> str | None:
    try:
        read_mask(path, classes, mode)
    except InputError as error:
        return str(error)
    return None
