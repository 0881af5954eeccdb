"""Base class of training sets of files: samples are functions of (seed, epoch, index); bad files are reported."""

import copy
import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data.images.file_set import FileSet
from data.images.files import images_by_stem
from data.images.pairing import fitted
from data.images.scan import require_none, unpaired
from data.training.crop_sized import CropSized
from runtime.errors import InputError

LAYERS = ("fg", "bg")  # optional keys of a sample
MAX_ATTEMPTS = 20  # consecutive unusable samples after which `on_bad="skip"` gives up

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pairs:
    """Paths of pictures with their alphas or masks, and the folders for messages."""

    pairs: Sequence[tuple[Path, Path]]
    folders: str


class RepeatableDataset(Dataset, FileSet, CropSized):
    """Training set whose sample (epoch, index) is a pure function of the files, `seed`, epoch and index.

    The constructor does not access the disk. A subclass lists its files in `_list_files`, whose result describes the
    `folders`, and makes a sample in `_sample`.

    Args:
        recipe: settings of the crop, a dataclass with `crop_size`.
        samples_per_epoch: nominal length of an epoch.
        seed: seed of all samples, 0 or more.
        on_bad: "error" to raise for an unusable file, or "skip" to warn and draw other files instead.

    Raises:
        InputError: a setting is out of its range.
    """

    on_bad_setting = "dataloader.train.dataset.on_bad=skip"

    def __init__(self, recipe: Any, samples_per_epoch: int, seed: int, on_bad: str):
        if on_bad not in ("error", "skip"):
            raise InputError(f"on_bad: expected error or skip, got {on_bad!r}")
        if samples_per_epoch < 1 or seed < 0:
            raise InputError(f"expected samples_per_epoch >= 1 and seed >= 0, got {samples_per_epoch} and {seed}")
        self.recipe = recipe
        self.samples_per_epoch, self.seed, self.on_bad = samples_per_epoch, seed, on_bad
        self.files: Any = None
        self.warned: set[str] = set()

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str | int]:
        """Return sample `index` (epoch 0) or (epoch, index).

        With `on_bad="skip"` it has `redrawn`, the number of earlier draws with unusable files, usually 0. A batch
        collates these into an integer tensor.

        Raises:
            IndexError: index outside 0 .. len - 1.
            InputError: no usable folders, or a bad file (see `on_bad`).
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        self.list_files()
        if self.on_bad == "error":
            return self._sample(self.files, epoch, index, attempt=0)
        for attempt in range(MAX_ATTEMPTS):
            sample = self._sample_or_none(self.files, epoch, index, attempt)
            if sample is not None:
                return {**sample, "redrawn": attempt}
        raise InputError(
            f"{self.files.folders}: {MAX_ATTEMPTS} draws in a row met unusable files; check the folders and repair them"
        )

    def list_files(self) -> None:
        """List the files, unless this was done. Otherwise the first sample does it in each process.

        Raises:
            InputError: no usable folders, or empty ones.
        """
        if self.files is None:
            self.files = self._list_files()

    def with_crop_size(self, crop_size: int | Sequence[int]) -> "RepeatableDataset":
        other = copy.copy(self)
        other.recipe = dataclasses.replace(self.recipe, crop_size=crop_size)
        return other

    def generator(self, epoch: int, index: int, attempt: int) -> np.random.Generator:
        """Generator of one sample. Each further attempt, after bad files, has its own generator."""
        key = [self.seed, epoch, index, attempt] if attempt else [self.seed, epoch, index]
        return np.random.default_rng(np.random.SeedSequence(key))

    def warn_once(self, problem: str) -> None:
        """Log once for each file that it is skipped."""
        if problem not in self.warned:
            self.warned.add(problem)
            logger.warning("skipped: %s", problem)

    def pairs_by_name(
        self, image_dir: Path, alpha_dir: Path, what: str, partner: str = "alpha"
    ) -> list[tuple[Path, Path]]:
        """Images of a folder and the alphas or masks of another, paired by name; `what` is for messages.

        Raises:
            InputError: a file has no partner (a warning if `on_bad` is "skip"), two files fit one, or there is no pair.
        """
        images = images_by_stem(image_dir)
        alphas = fitted(images, images_by_stem(alpha_dir), partner)
        missing = unpaired(images, image_dir, alphas, alpha_dir)
        if self.on_bad == "error":
            require_none(missing, f"every {what} needs its {partner}; add or remove files, or set on_bad=skip")
        for line in missing:
            self.warn_once(line)
        pairs = [(images[stem], alphas[stem]) for stem in images if stem in alphas]
        if not pairs:
            raise InputError(f"{image_dir}, {alpha_dir}: expected {what}s and {partner}s of the same names, found none")
        return pairs

    def choose_pair(
        self, pairs: Sequence[tuple[Path, Path]], rng: np.random.Generator, epoch: int, index: int, attempt: int
    ) -> tuple[Path, Path]:
        """Pair of a sample: the pairs in turn, and after unusable files a random one."""
        random_pair = rng.integers(len(pairs))  # always drawn, so that settings do not shift later draws
        return pairs[random_pair if attempt else (epoch * len(self) + index) % len(pairs)]

    def _sample_or_none(self, files: Any, epoch: int, index: int, attempt: int) -> dict[str, Tensor | str] | None:
        try:
            return self._sample(files, epoch, index, attempt)
        except InputError as error:
            self.warn_once(str(error))
            return None

    def _list_files(self) -> Any:
        raise NotImplementedError

    def _sample(self, files: Any, epoch: int, index: int, attempt: int) -> dict[str, Tensor | str]:
        raise NotImplementedError
