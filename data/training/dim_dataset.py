"""Training samples composed from foregrounds, alphas and backgrounds on disk, as in Deep Image Matting."""

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from data.images.files import images_by_stem, read_rgb
from data.images.mattes import read_matte
from data.images.pairs import size_hint
from data.images.reduced_decode import read_rgb_reduced
from data.images.scan import look_at_mattes, training_set_problems
from data.images.trimap import FOREGROUND, UNKNOWN
from data.training.decoded_cache import DecodedCache
from data.training.dim_recipe import DIM_AFFINE, Crop, DimDraw, DimRecipe, Layer, canvas_size, draw_sample, make_crop
from data.training.realism import Look, Realism, draw_look
from data.training.repeatable import RepeatableDataset
from data.transforms import AffineRange
from runtime.errors import InputError

logger = logging.getLogger(__name__)

TRIMAP_LEVELS = np.float32([0] * UNKNOWN + [0.5] * (FOREGROUND - UNKNOWN) + [1])  # values of 0, 128 and 255
LOOK_STREAM = 1  # number of a separate stream of a sample's random numbers
ROOT_VARIABLE = "DINOMATTE_DIM_ROOT"  # environment variable for the root if the config does not set it


class CompositionDataset(RepeatableDataset):
    """Endless composites. Sample (epoch, index) is a pure function of the files, `seed`, epoch and index.

    The constructor does not access the disk. The folders are listed at the first sample, sorted by name. Foreground and
    alpha are paired by name without extension. Position epoch * samples_per_epoch + index runs through the backgrounds
    in order, so that over the epochs each is used equally often. With "modulo" pairing a background always has the same
    first foreground, as in the public recipe.

    Args:
        root: parent of `fg`, `alpha` and `bg`; None for the environment variable DINOMATTE_DIM_ROOT.
        fg_dir, alpha_dir, bg_dir: folders to use instead of those under `root`.
        samples_per_epoch: nominal length of an epoch; 43100 is 431 foregrounds of DIM x 100.
        pairing: "modulo" or "random" choice of the first foreground.
        alpha_snap: distance from 0 or 1 within which alpha becomes 0 or 1 on reading, such as 2 / 255 for JPEG noise.
        seed: seed of all samples, 0 or more.
        on_bad: "error" to raise for an unusable file, or "skip" to warn and draw other files instead.
        return_layers: whether samples have `fg` and `bg`.
        cache: limit of the decoded foregrounds and alphas that all processes share on disk, see
            `data.training.decoded_cache.DecodedCache`; samples do not depend on it.
        reduced_decode: decode large JPEG backgrounds at 1/2, 1/4 or 1/8 if the result is at least as large as the
            canvas.
        cache_backgrounds: keep decoded backgrounds in `cache` too, for a set with few of them; they are then decoded
            at full size.
        realism: photographic backgrounds, trimaps and camera effects, see `data.training.realism`; None for the public
            recipe.
        crop_size, trimap_erosion, trimap_size, double_foreground_prob, double_foreground, resize640_prob, affine,
            interpolation, colour_jitter, crop_centre: see `data.training.dim_recipe.DimRecipe`.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        fg_dir: str | os.PathLike | None = None,
        alpha_dir: str | os.PathLike | None = None,
        bg_dir: str | os.PathLike | None = None,
        samples_per_epoch: int = 43100,
        crop_size: int | Sequence[int] = 512,
        trimap_erosion: tuple[int, int] = (1, 29),
        trimap_size: int | None = 640,
        double_foreground_prob: float = 0.5,
        double_foreground: str = "legacy",
        resize640_prob: float = 0.25,
        affine: AffineRange | None = DIM_AFFINE,
        interpolation: str = "random",
        colour_jitter: bool = True,
        pairing: str = "modulo",
        alpha_snap: float = 0.0,
        seed: int = 0,
        on_bad: str = "error",
        return_layers: bool = False,
        cache: str | int | None = "auto",
        reduced_decode: bool = False,
        cache_backgrounds: bool = False,
        realism: Realism | None = None,
        crop_centre: str = "trimap",
    ):
        recipe = DimRecipe(
            crop_size=crop_size,
            trimap_erosion=tuple(trimap_erosion),
            trimap_size=trimap_size,
            double_foreground_prob=double_foreground_prob,
            double_foreground=double_foreground,
            resize640_prob=resize640_prob,
            affine=affine,
            interpolation=interpolation,
            colour_jitter=colour_jitter,
            crop_centre=crop_centre,
        )
        super().__init__(recipe, samples_per_epoch, seed, on_bad)
        if pairing not in ("modulo", "random"):
            raise InputError(f"pairing: expected modulo or random, got {pairing!r}")
        self.root, self.fg_dir, self.alpha_dir, self.bg_dir = root, fg_dir, alpha_dir, bg_dir
        self.pairing = pairing
        self.alpha_levels = snapped_levels(alpha_snap)
        self.return_layers, self.reduced_decode = return_layers, reduced_decode
        self.cache_backgrounds, self.realism = cache_backgrounds, realism
        self.cache = DecodedCache(cache)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str | int]:
        """Return sample `index` (epoch 0) or (epoch, index).

        Returns:
            image: (3, S, S) float32 RGB in [0, 1], not normalised.
            fg, bg: (3, S, S) with `return_layers`. With one crop size, image = alpha fg + (1 - alpha) bg.
            alpha: (1, S, S) float32 in [0, 1].
            trimap: (1, S, S) float32 of 0, 0.5 and 1.
            name: the foreground's name without extension.
            redrawn: with `on_bad="skip"`, the number of earlier draws with unusable files.

        Raises:
            IndexError: index outside 0 .. len - 1.
            InputError: no usable folders, or a bad file (see `on_bad`).
        """
        return super().__getitem__(key)

    def problems(self, decode: bool = True) -> list[str]:
        """Check the whole set and return one line for each unusable file, as in `training_set_problems`."""
        return training_set_problems(*self._folders(), decode=decode)

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        self.list_files()
        return look_at_mattes(self.files.pairs, self._folders(), decode)

    def _sample(self, files: "_Files", epoch: int, index: int, attempt: int) -> dict[str, Tensor | str]:
        rng = self.generator(epoch, index, attempt)
        drawn, look = draw_sample(self.recipe, rng), self._look(epoch, index, attempt)
        if look is not None:
            drawn = dataclasses.replace(drawn, zoom=look.zoom, foreground_erosion=1, background_erosion=1)
        # Always drawn, so that a setting changes only what it names.
        random_fg, random_second = rng.integers(len(files.pairs), size=2)
        random_bg = rng.integers(len(files.backgrounds))
        bg_index = random_bg if attempt else (epoch * len(self) + index) % len(files.backgrounds)
        fg_index = bg_index % len(files.pairs) if self.pairing == "modulo" and not attempt else random_fg

        layer = self._read_layer(*files.pairs[fg_index])
        second = self._read_layer(*files.pairs[random_second]) if drawn.double_foreground else None
        background = self._read_background(files.backgrounds[bg_index], layer, drawn)
        crop = make_crop(layer, second, background, drawn, self.recipe, self.return_layers, look)
        if self.recipe.crop_centre == "fractional" and not (crop.trimap == UNKNOWN).any():
            self.warn_empty(files.pairs[fg_index][1])
        return {**_to_tensors(crop), "name": files.pairs[fg_index][0].stem}

    def warn_empty(self, path: Path) -> None:
        """Warn, once for each alpha, about a crop without an unknown pixel, whose loss is 0."""
        if str(path) not in self.warned:
            self.warned.add(str(path))
            logger.warning("%s: a crop has no unknown pixel, its loss is 0", path)

    def _look(self, epoch: int, index: int, attempt: int) -> Look | None:
        """The sample's look, from a separate random stream."""
        if self.realism is None:
            return None
        key = [self.seed, epoch, index, attempt, LOOK_STREAM]
        return draw_look(self.realism, np.random.default_rng(np.random.SeedSequence(key)))

    def _read_layer(self, fg_path: Path, alpha_path: Path) -> Layer:
        return read_layer(fg_path, alpha_path, self.alpha_levels, self.cache)

    def _read_background(self, path: Path, layer: Layer, drawn: DimDraw) -> np.ndarray:
        if self.cache_backgrounds:
            return self.cache.read(path, read_rgb)
        if not self.reduced_decode:
            return read_rgb(path)
        return read_rgb_reduced(path, canvas_size(layer.size, drawn, self.recipe))

    def _folders(self) -> tuple[Path, Path, Path]:
        root = self.root or os.environ.get(ROOT_VARIABLE)
        folders = {"fg": self.fg_dir, "alpha": self.alpha_dir, "bg": self.bg_dir}
        if not root and not all(folders.values()):
            raise InputError(
                "no training data: set dataloader.train.dataset.root, or the environment variable "
                f"{ROOT_VARIABLE}, to a folder with fg, alpha and bg (docs/data.md)"
            )
        fg_dir, alpha_dir, bg_dir = (Path(given or Path(root) / name) for name, given in folders.items())
        for folder in (fg_dir, alpha_dir, bg_dir):
            if not folder.is_dir():
                raise InputError(
                    f"{folder}: no such folder; training data is a folder with fg, alpha and bg, given as "
                    f"dataloader.train.dataset.root or {ROOT_VARIABLE}"
                )
        return fg_dir, alpha_dir, bg_dir

    def paths(self) -> list[Path]:
        self.list_files()
        return [*(path for pair in self.files.pairs for path in pair), *self.files.backgrounds]

    def _list_files(self) -> "_Files":
        fg_dir, alpha_dir, bg_dir = self._folders()
        return _Files(
            pairs=self.pairs_by_name(fg_dir, alpha_dir, "foreground"),
            backgrounds=list(images_by_stem(bg_dir).values()),
            folders=(fg_dir, alpha_dir, bg_dir),
        )


class _Files:
    """The listed folders: (foreground, alpha) paths and background paths, neither of them empty."""

    def __init__(self, pairs: list[tuple[Path, Path]], backgrounds: list[Path], folders: tuple[Path, Path, Path]):
        fg_dir, alpha_dir, bg_dir = folders
        if not backgrounds:
            raise InputError(f"{bg_dir}: expected background photographs, found none")
        self.pairs, self.backgrounds = pairs, backgrounds
        self.folders = f"{fg_dir}, {alpha_dir}, {bg_dir}"


def read_layer(
    fg_path: Path,
    alpha_path: Path,
    alpha_levels: np.ndarray | None = None,
    cache: DecodedCache | None = None,
    read_alpha: Callable[[Path], np.ndarray] = read_matte,
) -> Layer:
    """Read colours and alpha of one size. `alpha_levels` (256,) uint8 replaces the levels of alpha.

    With a `cache`, both are read through it and may be read-only.

    Raises:
        InputError: an unreadable file, or different sizes.
    """
    if cache is None:
        fg, alpha = read_rgb(fg_path), read_alpha(alpha_path)
    else:
        fg, alpha = cache.read(fg_path, read_rgb), cache.read(alpha_path, read_alpha)
    if fg.shape[:2] != alpha.shape:
        raise InputError(
            f"{alpha_path}: {alpha.shape[1]} x {alpha.shape[0]} pixels, but its picture {fg_path} has "
            f"{fg.shape[1]} x {fg.shape[0]}{size_hint(fg_path, alpha_path)}"
        )
    return Layer(fg, alpha if alpha_levels is None else alpha_levels[alpha])


def snapped_levels(alpha_snap: float) -> np.ndarray | None:
    """Lookup table of the 256 levels in which those within `alpha_snap` of 0 and 1 become 0 and 1; None if none does.

    Raises:
        InputError: not 0 <= alpha_snap < 0.5.
    """
    if not 0 <= alpha_snap < 0.5:
        raise InputError(f"expected 0 <= alpha_snap < 0.5, got {alpha_snap}")
    reach = int(alpha_snap * 255 + 1e-6)  # 2 / 255 means two levels in spite of rounding
    if reach == 0:
        return None
    levels = np.arange(256, dtype=np.uint8)
    levels[: reach + 1] = 0
    levels[255 - reach :] = 255
    return levels


def _to_tensors(crop: Crop) -> dict[str, Tensor]:
    colours = {"image": crop.image, "fg": crop.fg, "bg": crop.bg}
    planes = {name: np.ascontiguousarray(c.transpose(2, 0, 1)) for name, c in colours.items() if c is not None}
    return {
        **{name: torch.from_numpy(colour) for name, colour in planes.items()},
        "alpha": torch.from_numpy(crop.alpha[None]),
        "trimap": torch.from_numpy(cv2.LUT(crop.trimap, TRIMAP_LEVELS)[None]),
    }
