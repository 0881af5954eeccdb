"""Folders of photographs with mattes and, optionally, trimaps of the same names."""

import os
from pathlib import Path

import numpy as np

from data.images.file_set import FileSet
from data.images.files import found_none, images_by_stem, read_rgb
from data.images.mattes import matte_reading, read_trimap, trimap_reading
from data.images.scan import look_at_mattes, require_none, size_mismatches, unpaired, unreadable_images
from runtime.errors import InputError


class MattingFolder(FileSet):
    """Photographs, their trimaps and mattes, matched by name without extension.

    The constructor does not access the disk. The folders are listed at first use, sorted by name.

    Args:
        image_dir: folder of images in any format that `data.images.files` reads.
        trimap_dir: folder of trimaps, or None; `trimap` is then None.
        alpha_dir: folder of true mattes, or None; `alpha` is then None.
        allow_extra: whether trimaps and mattes without an image are ignored. Otherwise they are an error.

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
    ):
        self.image_dir = Path(image_dir)
        self.trimap_dir = None if trimap_dir is None else Path(trimap_dir)
        self.alpha_dir = None if alpha_dir is None else Path(alpha_dir)
        self.allow_extra = allow_extra
        self.listed: list[dict[str, Path]] | None = None

    def __len__(self) -> int:
        return len(self.files())

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
            "name": files["image"].stem,
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

    def files(self) -> list[dict[str, Path]]:
        """Paths of every item: image and, with their folders, trimap and alpha.

        Raises:
            InputError: a folder is missing or has no image, or partners are missing; the message names the first few.
        """
        if self.listed is None:
            self.listed = self._list_files()
        return self.listed

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
        folders = {"image": self.image_dir, "trimap": self.trimap_dir, "alpha": self.alpha_dir}
        folders = {part: folder for part, folder in folders.items() if folder is not None}
        found = {part: images_by_stem(folder, ignore_case=True) for part, folder in folders.items()}
        images = found["image"]
        if not images:
            raise found_none(self.image_dir)
        missing = []
        for part in list(folders)[1:]:
            partners = found[part]
            if self.allow_extra:
                partners = {stem: path for stem, path in partners.items() if stem in images}
            missing += unpaired(images, self.image_dir, partners, folders[part])
        require_none(missing, "names must agree without the extension; add or remove files")
        return [{part: paths[stem] for part, paths in found.items()} for stem in images]
