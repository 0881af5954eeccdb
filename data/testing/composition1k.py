"""The Composition-1k test set, and sets with its layout."""

import os
from functools import partial
from pathlib import Path

from data.images.mattes import matte_reading
from data.testing.matting_folder import MattingFolder
from runtime.errors import InputError

ROOT_VARIABLE = "DINOMATTE_COMPOSITION1K_ROOT"  # environment variable for the root if the config does not set it


class Composition1k(MattingFolder):
    """The Composition-1k test set, `merged/`, `trimaps/` and `alpha_copy/` under one root, or a set with its layout.

    Args:
        root: folder of the set; None for the environment variable DINOMATTE_COMPOSITION1K_ROOT.
        require_alpha: whether `alpha_copy` is needed. False, for inference without the truth, gives an `alpha` of None,
            and files that cannot be read cost only themselves.

    Raises (at first use):
        InputError: no root, or one of the three folders or some of their files are missing.
    """

    alpha_reading = staticmethod(partial(matte_reading, first_channel=True))  # as in its evaluation code

    def __init__(self, root: str | os.PathLike | None = None, require_alpha: bool = True):
        self.root, self.require_alpha = root, require_alpha
        folder = Path(root or os.environ.get(ROOT_VARIABLE) or "")
        alpha_dir = folder / "alpha_copy" if require_alpha else None
        super().__init__(
            folder / "merged", folder / "trimaps", alpha_dir, allow_extra=False, keep_unreadable=not require_alpha
        )

    def _list_files(self) -> list[dict[str, Path]]:
        if not (self.root or os.environ.get(ROOT_VARIABLE)):
            raise InputError(
                "no test data: set dataloader.test.root, or the environment variable "
                f"{ROOT_VARIABLE}, to a folder with merged, trimaps and alpha_copy (docs/data.md)"
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
