"""Folder layouts of public data sets of photographs and their alphas."""

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import InputError


@dataclass(frozen=True)
class FolderLayout:
    """Names of a data set's folders. The first existing folder of `images` is read."""

    images: tuple[str, ...]
    alphas: str


LAYOUTS = {
    "p3m-10k": FolderLayout(("blurred_image", "original_image"), "mask"),  # train/, validation/P3M-500-P/ and -NP/
    "am-2k": FolderLayout(("original",), "mask"),  # train/ and validation/
    "aim-500": FolderLayout(("original",), "mask"),
    "rgb-alpha": FolderLayout(("rgb_images",), "alpha_maps"),  # train/, val/, test/: nikhiliit/Dinov3_matting
    "distinctions-646": FolderLayout(("FG",), "GT"),  # Train/
}


def find_folders(
    root: str | os.PathLike | None,
    layout: str | None,
    image_dir: str | os.PathLike | None,
    alpha_dir: str | os.PathLike | None,
) -> tuple[Path, Path]:
    """Folders of images and alphas: those given, or those of `layout`, one of `LAYOUTS`, under `root`.

    Raises:
        InputError: neither both folders nor root and layout were given, or a folder does not exist.
    """
    if image_dir is not None and alpha_dir is not None:
        folders = Path(image_dir), Path(alpha_dir)
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"{folder}: expected a folder of images, found none")
        return folders
    if not root or layout is None:
        raise InputError(f"expected image_dir and alpha_dir, or root and layout, one of {', '.join(LAYOUTS)}")
    names = LAYOUTS[layout]
    images = [Path(root) / name for name in names.images if (Path(root) / name).is_dir()]
    alphas = Path(root) / names.alphas
    if not images or not alphas.is_dir():
        raise InputError(
            f"{root}: expected folders {' or '.join(names.images)}, and {names.alphas}, as each part of {layout} has "
            "them; give the folder of one part, such as train"
        )
    return images[0], alphas
