"""Folders of photographs with trimaps and mattes of the same names; Composition-1k is one."""

import os
from pathlib import Path

from data.errors import InputError
from data.files import images_by_stem, read_gray, read_rgb, read_trimap
from data.scan import require_none, size_mismatches, unpaired, unreadable_images

ROOT_VARIABLE = "DINOMATTE_COMPOSITION1K_ROOT"  # environment variable that gives the root where the config does not


class MattingFolder:
    """Photographs, their trimaps and, where known, their mattes, matched by name without extension.

    Constructing it touches no disk; the folders are listed at first use, sorted by name.

    Args:
        image_dir, trimap_dir: folders of images in any format `data.files` reads.
        alpha_dir: folder of true mattes, or None where there are none: `alpha` is then None.
        allow_extra: whether trimaps and mattes of images that are not there are ignored or an error.
    """

    def __init__(
        self,
        image_dir: str | os.PathLike,
        trimap_dir: str | os.PathLike,
        alpha_dir: str | os.PathLike | None = None,
        allow_extra: bool = True,
    ):
        self.image_dir, self.trimap_dir = Path(image_dir), Path(trimap_dir)
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
            trimap: (H, W) uint8 of 0, 128 and 255.
            alpha: (H, W) uint8, or None without `alpha_dir`.

        Raises:
            InputError: an unreadable file, or sizes that differ from the image's.
        """
        files = self.files()[index]
        item = {
            "name": files["image"].stem,
            "image": read_rgb(files["image"]),
            "trimap": read_trimap(files["trimap"]),
            "alpha": read_gray(files["alpha"]) if "alpha" in files else None,
        }
        for part in list(files)[1:]:
            if item[part].shape != item["image"].shape[:2]:
                raise InputError(size_mismatches([(files["image"], files[part])])[0])
        return item

    def files(self) -> list[dict[str, Path]]:
        """The paths of every item: image, trimap and, with `alpha_dir`, alpha.

        Raises:
            InputError: a folder is missing or holds no image, or partners are missing; the first few are named.
        """
        if self.listed is None:
            self.listed = self._list_files()
        return self.listed

    def problems(self) -> list[str]:
        """One line for each file that is not an image or differs in size, from the headers only."""
        items = [tuple(files.values()) for files in self.files()]
        unreadable = unreadable_images([path for item in items for path in item], decode=False)
        return [*unreadable.values(), *size_mismatches(i for i in items if not unreadable.keys() & set(i))]

    def _list_files(self) -> list[dict[str, Path]]:
        folders = {"image": self.image_dir, "trimap": self.trimap_dir}
        if self.alpha_dir is not None:
            folders["alpha"] = self.alpha_dir
        found = {part: images_by_stem(folder, ignore_case=True) for part, folder in folders.items()}
        images = found["image"]
        if not images:
            raise InputError(f"{self.image_dir}: expected images, found none")
        missing = []
        for part in list(folders)[1:]:
            partners = found[part]
            if self.allow_extra:
                partners = {stem: path for stem, path in partners.items() if stem in images}
            missing += unpaired(images, self.image_dir, partners, folders[part])
        require_none(missing, "names must agree but for the extension; add or remove files")
        return [{part: paths[stem] for part, paths in found.items()} for stem in images]


class Composition1k(MattingFolder):
    """The Composition-1k test set, `merged/`, `trimaps/` and `alpha_copy/` under one root, or a set laid out like it.

    Args:
        root: the folder; None takes the environment variable DINOMATTE_COMPOSITION1K_ROOT.
        require_alpha: False leaves `alpha_copy` unopened, for inference without the truth; `alpha` is then None.

    Raises (at first use):
        InputError: no root, or one of the three folders or some of their files are missing.
    """

    def __init__(self, root: str | os.PathLike | None = None, require_alpha: bool = True):
        self.root, self.require_alpha = root, require_alpha
        folder = Path(root or os.environ.get(ROOT_VARIABLE) or "")
        alpha_dir = folder / "alpha_copy" if require_alpha else None
        super().__init__(folder / "merged", folder / "trimaps", alpha_dir, allow_extra=False)

    def _list_files(self) -> list[dict[str, Path]]:
        if not (self.root or os.environ.get(ROOT_VARIABLE)):
            raise InputError(
                "no test data: set dataloader.test.root, or the environment variable "
                f"{ROOT_VARIABLE}, to a folder holding merged, trimaps and alpha_copy (docs/data.md)"
            )
        missing = [
            folder.name
            for folder in (self.image_dir, self.trimap_dir, self.alpha_dir)
            if folder and not folder.is_dir()
        ]
        if missing:
            wanted = "merged, trimaps and alpha_copy" if self.require_alpha else "merged and trimaps"
            raise InputError(f"{self.image_dir.parent}: expected folders {wanted}, missing {', '.join(missing)}")
        return super()._list_files()
