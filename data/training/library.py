"""A library of foregrounds and backgrounds on disk as one training set: sets of foregrounds in fixed shares."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.training.dim_dataset import CompositionDataset
from data.training.mixture import Mixture
from runtime.errors import InputError


def composition_library(
    root: str | os.PathLike | None,
    shares: Mapping[str, float],
    samples_per_epoch: int = 43100,
    seed: int = 0,
    bg_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> Mixture:
    """Training samples composed from several sets of foregrounds over the same backgrounds.

    Args:
        root: folder that holds for each set SET/fg and SET/alpha, and bg.
        shares: of the samples, by the name of the set; 0 leaves a set out.
        samples_per_epoch, seed: of the mixture.
        bg_dir: backgrounds to use instead of root/bg.
        settings: of each `CompositionDataset`.

    Raises:
        InputError: no root, or a setting out of its range; missing folders are named at the first sample.

    Example:
        >>> composition_library("library", {"rendered": 0.7, "flat": 0.3}, crop_size=256)
    """
    if not root:
        raise InputError(
            "no training data: set dataloader.train.dataset.root to a folder holding bg, and fg and alpha in each of "
            f"{', '.join(shares)}"
        )
    root = Path(root)
    sets = [
        (
            CompositionDataset(
                fg_dir=root / name / "fg",
                alpha_dir=root / name / "alpha",
                bg_dir=bg_dir or root / "bg",
                samples_per_epoch=samples_per_epoch,
                seed=seed + number,
                **settings,
            ),
            share,
        )
        for number, (name, share) in enumerate(shares.items())
    ]
    return Mixture(sets, samples_per_epoch, seed)
