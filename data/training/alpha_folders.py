"""Training samples of photographs with their alphas: P3M-10k, AM-2k, AIM-500 and folders like them."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from data.images.mattes import read_matte
from data.images.scan import look_at_mattes, pair_problems
from data.images.trimap_tensors import trimap_to_tensor
from data.training.alpha_layouts import LAYOUTS, find_folders
from data.training.dim_dataset import read_layer, snapped_levels
from data.training.dim_recipe import DIM_AFFINE, DimDraw, DimRecipe, Layer, draw_sample, place_crop
from data.training.repeatable import LAYERS, Pairs, RepeatableDataset
from data.transforms import AffineRange, jitter_colour, read_through
from data.transforms.geometry import Size
from runtime.errors import InputError

MIRRORED = cv2.BORDER_REFLECT_101  # for image and alpha alike, so that pixels from outside are composites too


class AlphaFolderDataset(RepeatableDataset):
    """Crops of photographs with their alpha and with trimaps made from it.

    A photograph is its own composite; no other background is used. The other steps are those of `CompositionDataset`:
    resize, affine transform, trimap, crop centred on an unknown pixel, and colour jitter (here of the whole picture).
    Pixels from outside the photograph are mirrored, with mirrored alpha. Position epoch * samples_per_epoch + index
    runs through the photographs in order.

    Args:
        root: parent of the folders of `layout`.
        layout: one of `data.training.alpha_layouts.LAYOUTS`; None if `image_dir` and `alpha_dir` are given.
        image_dir, alpha_dir: folders with equal names without extension, instead of root and layout.
        samples_per_epoch: nominal length of an epoch.
        alpha_snap: distance from 0 or 1 within which alpha becomes 0 or 1 on reading, such as 2 / 255 for JPEG noise.
        seed: seed of all samples, 0 or more.
        on_bad: "error" to raise for an unusable file, or "skip" to warn and draw other files instead.
        return_layers: whether samples have `fg` and `bg`.
        crop_size, trimap_erosion, trimap_size, resize640_prob, affine, interpolation, colour_jitter: see
            `data.training.dim_recipe.DimRecipe`.

    Raises:
        InputError: a setting is out of its range.
    """

    knows_layers = False

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        layout: str | None = None,
        image_dir: str | os.PathLike | None = None,
        alpha_dir: str | os.PathLike | None = None,
        samples_per_epoch: int = 10_000,
        crop_size: int | Sequence[int] = 512,
        trimap_erosion: tuple[int, int] = (1, 29),
        trimap_size: int | None = 640,
        resize640_prob: float = 0.25,
        affine: AffineRange | None = DIM_AFFINE,
        interpolation: str = "random",
        colour_jitter: bool = True,
        alpha_snap: float = 0.0,
        seed: int = 0,
        on_bad: str = "error",
        return_layers: bool = False,
    ):
        recipe = DimRecipe(
            crop_size=crop_size,
            trimap_erosion=tuple(trimap_erosion),
            trimap_size=trimap_size,
            double_foreground_prob=0.0,
            resize640_prob=resize640_prob,
            affine=affine,
            interpolation=interpolation,
            colour_jitter=colour_jitter,
        )
        super().__init__(recipe, samples_per_epoch, seed, on_bad)
        if layout is not None and layout not in LAYOUTS:
            raise InputError(f"layout: expected one of {', '.join(LAYOUTS)}, or none, got {layout!r}")
        self.root, self.layout, self.image_dir, self.alpha_dir = root, layout, image_dir, alpha_dir
        self.alpha_levels = snapped_levels(alpha_snap)
        self.return_layers = return_layers

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor | str]:
        """Return sample `index` (epoch 0) or (epoch, index), with the keys of `CompositionDataset`.

        Returns:
            image: (3, S, S) float32 RGB in [0, 1], not normalised.
            fg, bg: with `return_layers`, the image again, because the true ones are not known; image = alpha fg +
                (1 - alpha) bg still holds.
            alpha: (1, S, S) float32 in [0, 1].
            trimap: (1, S, S) float32 of 0, 0.5 and 1.
            name: the photograph's name without extension.

        Raises:
            IndexError: index outside 0 .. len - 1.
            InputError: no usable folders, or a bad file (see `on_bad`).
        """
        return super().__getitem__(key)

    def problems(self, decode: bool = True) -> list[str]:
        """Check both folders and return one line for each unusable file, as in `data.images.scan.pair_problems`."""
        return pair_problems(*self.folders(), decode=decode, read_alpha=read_matte)

    def look_at_mattes(self, decode: bool = True) -> tuple[list[str], list[str]]:
        self.list_files()
        return look_at_mattes(self.files.pairs, self.folders(), decode)

    def paths(self) -> list[Path]:
        self.list_files()
        return [path for pair in self.files.pairs for path in pair]

    def folders(self) -> tuple[Path, Path]:
        """Folders of images and of alphas.

        Raises:
            InputError: the settings do not determine the folders, or the folders do not exist.
        """
        return find_folders(self.root, self.layout, self.image_dir, self.alpha_dir)

    def _list_files(self) -> Pairs:
        image_dir, alpha_dir = self.folders()
        return Pairs(self.pairs_by_name(image_dir, alpha_dir, "image"), f"{image_dir}, {alpha_dir}")

    def _sample(self, files: Pairs, epoch: int, index: int, attempt: int) -> dict[str, Tensor | str]:
        rng = self.generator(epoch, index, attempt)
        drawn = draw_sample(self.recipe, rng)
        pair = self.choose_pair(files.pairs, rng, epoch, index, attempt)
        image, alpha, trimap = self._crop(read_layer(*pair, self.alpha_levels, read_alpha=read_matte), drawn, rng)
        colours = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {
            "image": colours,
            **({name: colours.clone() for name in LAYERS} if self.return_layers else {}),
            "alpha": torch.from_numpy(alpha[None]),
            "trimap": trimap_to_tensor(trimap),
            "name": pair[0].stem,
        }

    def _crop(
        self, photograph: Layer, drawn: DimDraw, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image, alpha and trimap of a sample; see `crop_photograph`."""
        return crop_photograph(photograph, drawn, self.recipe)


def crop_photograph(photograph: Layer, drawn: DimDraw, recipe: DimRecipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make the crop of a photograph and its alpha that `drawn` describes.

    Args:
        photograph: layer whose `fg` is the whole photograph.

    Returns:
        Image (S, S, 3) float32 RGB and alpha (S, S) float32 in [0, 1]; trimap (S, S) uint8 of 0, 128 and 255.
    """
    whole_alpha = photograph.alpha.astype(np.float32)

    def read_alpha(pixel_map: np.ndarray, size: Size) -> np.ndarray:
        levels = read_through(whole_alpha, pixel_map, size, drawn.interpolation_alpha, MIRRORED)
        return np.clip(levels / np.float32(255), 0, 1)

    place = place_crop(read_alpha, photograph.size, drawn, recipe)
    size = (recipe.side_of(drawn),) * 2
    image = read_through(photograph.fg, place.to_layer, size, drawn.interpolation_fg, MIRRORED) / np.float32(255)
    if recipe.colour_jitter:
        image = jitter_colour(image, np.ones(size, np.float32), drawn.jitter)
    alpha = read_alpha(place.to_layer, size)
    if len(recipe.crop_sides) == 1:
        return image, alpha, place.trimap
    image, alpha = recipe.at_one_size(image), recipe.at_one_size(alpha)
    return image, alpha, drawn.trimap_of(alpha)
