"""Training samples of whole photographs, or most of each, for systems that must find the foreground themselves."""

import math
import os
from collections.abc import Sequence

import cv2
import numpy as np

from data.training.alpha_folders import MIRRORED, AlphaFolderDataset
from data.training.dim_recipe import DimDraw, Layer
from data.transforms import jitter_colour
from runtime.errors import InputError, require_choice

FITS = ("crop", "pad")


class WholePhotographs(AlphaFolderDataset):
    """Photographs with their alphas, resized in proportion to squares of one size.

    Half of the photographs are mirrored left to right, and colours are jittered as in `CompositionDataset`.

    Args:
        root, layout, image_dir, alpha_dir, samples_per_epoch, trimap_erosion, colour_jitter, alpha_snap, seed, on_bad,
        return_layers: see AlphaFolderDataset. The layout of `{train,val,test}/{rgb_images,alpha_maps}` is "rgb-alpha".
        crop_size: side of a sample in pixels.
        fit: "crop" scales the shorter side to `crop_size` times 1 to `largest_zoom` and cuts a random square. "pad"
            scales the longer side to `crop_size` and pads at the bottom or right with the mirrored photograph and its
            mirrored alpha.
        largest_zoom: largest zoom, 1 or more; 1 shows the whole shorter side.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        layout: str | None = "rgb-alpha",
        image_dir: str | os.PathLike | None = None,
        alpha_dir: str | os.PathLike | None = None,
        samples_per_epoch: int = 10_000,
        crop_size: int | Sequence[int] = 512,
        fit: str = "crop",
        largest_zoom: float = 2.0,
        trimap_erosion: tuple[int, int] = (1, 29),
        colour_jitter: bool = True,
        alpha_snap: float = 0.0,
        seed: int = 0,
        on_bad: str = "error",
        return_layers: bool = False,
    ):
        require_choice("fit", fit, FITS)
        if not largest_zoom >= 1:
            raise InputError(f"largest_zoom: expected a number of at least 1, got {largest_zoom}")
        super().__init__(
            root=root,
            layout=layout,
            image_dir=image_dir,
            alpha_dir=alpha_dir,
            samples_per_epoch=samples_per_epoch,
            crop_size=crop_size,
            trimap_erosion=trimap_erosion,
            colour_jitter=colour_jitter,
            alpha_snap=alpha_snap,
            seed=seed,
            on_bad=on_bad,
            return_layers=return_layers,
        )
        self.fit, self.largest_zoom = fit, largest_zoom

    def _crop(self, photograph: Layer, drawn: DimDraw, rng: np.random.Generator):
        zoom, flip, top, left = rng.random(4)
        side = self.recipe.side_of(drawn)
        lengths = photograph.size
        if self.fit == "pad":
            scale = side / max(lengths)
            size = [min(side, max(1, round(length * scale))) for length in lengths]
        else:
            scale = side / min(lengths) * math.exp(zoom * math.log(self.largest_zoom))
            size = [max(side, round(length * scale)) for length in lengths]
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        whole = [
            cv2.resize(layer, tuple(size[::-1]), interpolation=interpolation).astype(np.float32) / np.float32(255)
            for layer in (photograph.fg, photograph.alpha)
        ]
        if self.fit == "pad":
            padding = (0, side - size[0], 0, side - size[1])
            image, alpha = (cv2.copyMakeBorder(layer, *padding, MIRRORED) for layer in whole)
        else:
            row, column = (int(at * (length - side + 1)) for at, length in zip((top, left), size, strict=True))
            image, alpha = (np.ascontiguousarray(layer[row : row + side, column : column + side]) for layer in whole)
        if flip < 0.5:
            image, alpha = (np.ascontiguousarray(layer[:, ::-1]) for layer in (image, alpha))
        if self.recipe.colour_jitter:
            image = jitter_colour(image, np.ones(alpha.shape, np.float32), drawn.jitter)
        if len(self.recipe.crop_sides) > 1:
            image, alpha = self.recipe.at_one_size(image), self.recipe.at_one_size(alpha)
        return image, alpha, drawn.trimap_of(alpha)
