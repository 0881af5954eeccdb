"""A fixed number of samples that are the same in every epoch, so that features of a frozen encoder can be stored."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.images.file_set import FileSet
from runtime.errors import InputError


class FixedViews(Dataset, FileSet):
    """The first `num_views` samples of another data set, the same in every epoch.

    The random numbers of a sample are drawn from its position among the views. The views of a set that runs through its
    photographs in order are therefore `num_views` / photographs different crops of each photograph.

    Args:
        dataset: data set indexed by (epoch, index), whose samples are pure functions of them.
        num_views: number of views, 1 or more; the setting `dataloader.train.fixed_views`.

    Example:
        >>> from data.synthetic import SyntheticMatting
        >>> views = FixedViews(SyntheticMatting(size=32, samples_per_epoch=10), num_views=4)
        >>> torch.equal(views[0, 3]["image"], views[5, 3]["image"])  # the same in every epoch
        True
    """

    def __init__(self, dataset: Any, num_views: int) -> None:
        if not isinstance(num_views, int) or num_views < 1:
            raise InputError(f"dataloader.train.fixed_views: expected a whole number of at least 1, got {num_views!r}")
        self.dataset, self.num_views = dataset, num_views
        self.features_path: Path | None = None
        self._features: np.ndarray | None = None

    def __len__(self) -> int:
        return self.num_views

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """View `index` of every epoch, with "features" (C, h, w) float16 after `use_features`.

        Raises:
            IndexError: index outside 0 .. len - 1.
        """
        index = key[1] if isinstance(key, tuple) else key
        if not 0 <= index < len(self):
            raise IndexError(f"view {index} of {len(self)}")
        sample = dict(self.dataset[divmod(index, len(self.dataset))])
        if self.features_path is not None:
            if self._features is None:
                self._features = np.load(self.features_path, mmap_mode="r")
            sample["features"] = torch.from_numpy(np.array(self._features[index]))
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": None}  # another process opens its own memory map

    def use_features(self, path: str | os.PathLike) -> None:
        """Add to each sample its row of an .npy file (num_views, C, h, w), which is memory-mapped."""
        self.features_path, self._features = Path(path), None

    @property
    def on_bad(self) -> str:
        """Setting of the data set."""
        return getattr(self.dataset, "on_bad", "error")

    @property
    def on_bad_setting(self) -> str:
        """Setting of the data set."""
        return getattr(self.dataset, "on_bad_setting", "")

    @property
    def knows_layers(self) -> bool:
        """Property of the data set."""
        return getattr(self.dataset, "knows_layers", True)

    def problems(self, decode: bool = True) -> list[str]:
        return self.dataset.problems(decode=decode) if isinstance(self.dataset, FileSet) else []

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        return self.dataset.look_at_mattes(decode) if isinstance(self.dataset, FileSet) else ([], [])

    def list_files(self) -> None:
        if isinstance(self.dataset, FileSet):
            self.dataset.list_files()

    def paths(self) -> list[Path]:
        return self.dataset.paths() if isinstance(self.dataset, FileSet) else []
