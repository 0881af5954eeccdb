"""Mixture: training on several data sets, each with its share of every epoch."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from data.images.file_set import FileSet
from data.training.crop_sized import CropSized, with_crop_size
from data.training.repeatable import LAYERS
from runtime.errors import InputError

EPOCHS_KEPT = 2  # number of stored orders, as a loader reads samples of at most two epochs at a time


class Mixture(Dataset, FileSet, CropSized):
    """Samples of several data sets in fixed shares. Sample (epoch, index) is a pure function of seed, epoch and index.

    Every epoch has the same number of samples of each data set, in an order drawn from (seed, epoch). Each data set is
    used in its own order through its own epochs, so that all of its samples are used once before any is used twice.

    Args:
        parts: (data set, weight) pairs. A data set has a length and is indexed by (epoch, index). A weight is 0 or
            more; shares are proportional to the weights, in whole samples.
        samples_per_epoch: number of samples in an epoch.
        seed: seed of the order, 0 or more.
        return_layers: whether samples have `fg` and `bg`, which all data sets must then provide.

    Raises:
        InputError: a setting is out of its range, or a weight is too small for one sample in an epoch.

    Example:
        >>> from data.synthetic.dataset import SyntheticMatting
        >>> textures = SyntheticMatting(size=64, backgrounds="textures")
        >>> photographs = SyntheticMatting(size=64, backgrounds="photographs")
        >>> mixture = Mixture([(textures, 3), (photographs, 1)], samples_per_epoch=100)
        >>> mixture.counts
        [75, 25]
    """

    on_bad_setting = "on_bad=skip for each part"

    def __init__(
        self, parts: Sequence[tuple[Any, float]], samples_per_epoch: int, seed: int = 0, return_layers: bool = False
    ):
        if samples_per_epoch < 1 or seed < 0:
            raise InputError(f"expected samples_per_epoch >= 1 and seed >= 0, got {samples_per_epoch} and {seed}")
        if not all(isinstance(part, Sequence) and len(part) == 2 for part in parts):
            raise InputError("mixture: expected pairs of a data set and its weight")
        self.datasets = [dataset for dataset, _ in parts]
        self.counts = shares([float(weight) for _, weight in parts], samples_per_epoch)
        self.samples_per_epoch, self.seed, self.return_layers = samples_per_epoch, seed, return_layers
        self.redraws = any(policy == "skip" for policy in self._policies())
        self.orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.form: dict[str, tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """Return sample `index` (epoch 0) or (epoch, index) from its data set.

        If a data set skips bad files, every sample has `redrawn`, as in `RepeatableDataset`.

        Raises:
            IndexError: index outside 0 .. len - 1.
            InputError: the data sets have samples of different keys or sizes, or a data set raises an error.
        """
        member, position = self.source(*(key if isinstance(key, tuple) else (0, key)))
        dataset = self.datasets[member]
        sample = self._common(dataset[divmod(position, len(dataset))])
        self._require_same_form(sample, member)
        return sample

    def list_files(self) -> None:
        """List the files of every data set that reads files; see RepeatableDataset."""
        for dataset, count in zip(self.datasets, self.counts, strict=True):
            if count and isinstance(dataset, FileSet):
                dataset.list_files()

    def with_crop_size(self, crop_size: int | Sequence[int]) -> "Mixture":
        other = copy.copy(self)
        other.datasets = [with_crop_size(dataset, crop_size) for dataset in self.datasets]
        other.form = None
        return other

    def source(self, epoch: int, index: int) -> tuple[int, int]:
        """Data set of a sample, and the position in it: its own epoch times its own length plus its own index."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        members, ranks = self._order(epoch)
        member = int(members[index])
        return member, epoch * self.counts[member] + int(ranks[index])

    @property
    def on_bad(self) -> str:
        """Treatment of bad files found before training: "error" if it is that of any data set, else "skip"."""
        return "error" if "error" in self._policies() else "skip"

    @property
    def knows_layers(self) -> bool:
        """Return whether any of the data sets provides foreground and background."""
        used = (dataset for dataset, count in zip(self.datasets, self.counts, strict=True) if count)
        return any(getattr(dataset, "knows_layers", True) for dataset in used)

    def problems(self, decode: bool = True) -> list[str]:
        """Lines of all data sets that read files and whose weight is not 0."""
        return [
            line
            for dataset, count in zip(self.datasets, self.counts, strict=True)
            if count and isinstance(dataset, FileSet)
            for line in dataset.problems(decode=decode)
        ]

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        looked = [
            dataset.look_at_mattes(decode)
            for dataset, count in zip(self.datasets, self.counts, strict=True)
            if count and isinstance(dataset, FileSet)
        ]
        return [line for problems, _ in looked for line in problems], [line for _, lines in looked for line in lines]

    def paths(self) -> list[Path]:
        return [path for dataset in self.datasets if isinstance(dataset, FileSet) for path in dataset.paths()]

    def _policies(self) -> list[str]:
        return [dataset.on_bad for dataset in self.datasets if isinstance(dataset, FileSet)]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """For every index of an epoch, the data set and the number of its earlier samples in the epoch."""
        if epoch not in self.orders:
            members = np.repeat(np.arange(len(self.counts)), self.counts)
            members = np.random.default_rng([self.seed, epoch]).permutation(members)
            ranks = np.empty_like(members)
            for member, count in enumerate(self.counts):
                ranks[members == member] = np.arange(count)
            while len(self.orders) >= EPOCHS_KEPT:
                del self.orders[next(iter(self.orders))]
            self.orders[epoch] = members, ranks
        return self.orders[epoch]

    def _common(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample with the keys that all data sets have, because a batch needs equal keys."""
        if not self.return_layers:
            sample = {key: value for key, value in sample.items() if key not in LAYERS}
        return {"redrawn": 0, **sample} if self.redraws else sample

    def _require_same_form(self, sample: dict[str, Any], member: int) -> None:
        """Refuse samples that cannot be stacked into a batch, with a message."""
        form = {key: tuple(value.shape) for key, value in sample.items() if isinstance(value, Tensor)}
        if self.form is None:
            self.form = form
        if form != self.form:
            raise InputError(
                f"mixture: expected samples {self.form} of every data set, got {form} from data set {member} "
                f"({type(self.datasets[member]).__name__}); give all the same crop size"
            )


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Split `total` samples in proportion to `weights`, rounded down; the rest goes to the largest remainders.

    Raises:
        InputError: no positive weight, one that is negative or not finite, or one too small for a sample.
    """
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InputError(f"mixture: expected weights of 0 or more, one of them positive, got {list(weights)}")
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda member: counts[member] - exact[member])
    for member in by_remainder[: total - sum(counts)]:
        counts[member] += 1
    for weight, count in zip(weights, counts, strict=True):
        if weight and not count:
            raise InputError(
                f"mixture: a weight of {weight:g} is less than one sample of {total} in an epoch; raise it or "
                "samples_per_epoch"
            )
    return counts
