"""Folders of photographs with mattes and, optionally, trimaps of the same names."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.images.files import found_none, images_by_stem, read_rgb
from data.images.mattes import matte_reading, read_trimap, trimap_reading
from data.images.pairing import fitted
from data.images.scan import look_at_mattes, require_none, size_mismatches, unpaired, unreadable_images
from data.testing.listed_files import ListedFiles
from runtime.errors import InputError


class MattingFolder(ListedFiles):
    """Photographs, their trimaps and mattes, matched by name (see `data.images.pairing`).

    The folders are listed at first use, sorted by name; the paths of an item are a dict, see `files`.

    Args:
        image_dir: folder of images in any format that `data.images.files` reads.
        trimap_dir: folder of trimaps, one trimap for all images, or None; `trimap` is then None.
        alpha_dir: folder of true mattes, or None; `alpha` is then None.
        allow_extra: whether trimaps and mattes without an image are ignored. Otherwise they are an error.
        recursive: whether sub-folders are read too. Names are then paths, "clip1/0003".
        leave_out: sub-folders that are not read.
        keep_unreadable: whether broken links and special files are items, which fail when they are read.

    Example:
        >>> import numpy as np
        >>> from data.images.files import write_png
        >>> for folder, shape in (("images", (4, 6, 3)), ("trimaps", (4, 6))):
        ...     Path(folder).mkdir()
        ...     write_png(f"{folder}/cat.png", np.zeros(shape, np.uint8))
        >>> item = MattingFolder("images", "trimaps")[0]
        >>> item["name"], item["image"].shape, item["trimap"].shape, item["alpha"]
        ('cat', (4, 6, 3), (4, 6), None)
    """

    alpha_reading = staticmethod(matte_reading)

    def __init__(
        self,
        image_dir: str | os.PathLike,
        trimap_dir: str | os.PathLike | None = None,
        alpha_dir: str | os.PathLike | None = None,
        allow_extra: bool = True,
        recursive: bool = False,
        leave_out: Sequence[str | os.PathLike] = (),
        keep_unreadable: bool = False,
    ):
        self.image_dir = Path(image_dir)
        self.trimap_dir = None if trimap_dir is None else Path(trimap_dir)
        self.alpha_dir = None if alpha_dir is None else Path(alpha_dir)
        self.allow_extra = allow_extra
        self.recursive, self.leave_out, self.keep_unreadable = recursive, tuple(leave_out), keep_unreadable

    def __getitem__(self, index: int) -> dict:
        """Return item `index`, in the order of names.

        Returns:
            name: without extension.
            image: (H, W, 3) uint8 RGB.
            trimap: (H, W) uint8 of 0, 128 and 255, or None without `trimap_dir`.
            alpha: (H, W) uint8, or None without `alpha_dir`.

        Raises:
            InputError: an unreadable file, a matte in colours, or a size that differs from the image's.
        """
        files = self.files()[index]
        item = {
            "name": self.name_of(files),
            "image": read_rgb(files["image"]),
            "trimap": read_trimap(files["trimap"]) if "trimap" in files else None,
            "alpha": self.read_alpha(files["alpha"]) if "alpha" in files else None,
        }
        for part in list(files)[1:]:
            if item[part].shape != item["image"].shape[:2]:
                raise InputError(size_mismatches([(files["image"], files[part])])[0])
        return item

    def read_alpha(self, path: Path) -> np.ndarray:
        """Read a matte as (H, W) uint8."""
        return self.alpha_reading(path).values

    def name_of(self, files: Mapping[str, Path]) -> str:
        """The name of an item by its paths: that of its image within the folder, without extension."""
        return files["image"].relative_to(self.image_dir).with_suffix("").as_posix()

    def problems(self, decode: bool = False) -> list[str]:
        """One line for each unusable file, by default from the headers, which do not show whether a matte is gray."""
        items = [tuple(files.values()) for files in self.files()]
        unreadable = unreadable_images([p for f in self.files() for part, p in f.items() if part != "alpha"], decode)
        alphas = [files["alpha"] for files in self.files() if "alpha" in files]
        unreadable |= unreadable_images(alphas, decode, read=self.read_alpha)
        return [*unreadable.values(), *size_mismatches(i for i in items if not unreadable.keys() & set(i))]

    def look_at_mattes(self, decode: bool = False) -> tuple[list[str], list[str]]:
        pairs = [(files["image"], files["alpha"]) for files in self.files() if "alpha" in files]
        folders = [folder for folder in (self.image_dir, self.trimap_dir, self.alpha_dir) if folder is not None]
        problems, remarks = look_at_mattes(pairs, folders, decode, self.alpha_reading)
        trimaps = [(files["image"], files["trimap"]) for files in self.files() if "trimap" in files]
        more_problems, more = look_at_mattes(trimaps, [], decode, trimap_reading, what="trimap")
        return problems + more_problems, remarks + more

    def _list_files(self) -> list[dict[str, Path]]:
        """Image and, with their folders, trimap and alpha of every item."""
        folders = {"image": self.image_dir, "trimap": self.trimap_dir, "alpha": self.alpha_dir}
        folders = {part: folder for part, folder in folders.items() if folder is not None}
        images = self._images_in(self.image_dir, list(folders.values())[1:])
        if not images:
            raise found_none(self.image_dir, self.recursive)
        found, missing = {"image": images}, []
        for part, folder in list(folders.items())[1:]:
            if part == "trimap" and folder.is_file():
                found[part] = dict.fromkeys(images, folder)
                continue
            others = [other for other in folders.values() if other != folder]
            partners = fitted(images, self._images_in(folder, others), part)
            if self.allow_extra:
                partners = {stem: path for stem, path in partners.items() if stem in images}
            missing += unpaired(images, self.image_dir, partners, folder)
            found[part] = partners
        require_none(missing, "names must agree without the extension; add or remove files")
        return [{part: paths[stem] for part, paths in found.items()} for stem in images]

    def _images_in(self, folder: Path, others: Sequence[Path]) -> dict[str, Path]:
        return images_by_stem(folder, self.recursive, [*others, *self.leave_out], self.keep_unreadable)
