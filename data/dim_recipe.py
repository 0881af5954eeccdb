"""The Deep Image Matting training recipe: from decoded layers to one crop.

The steps and their order are those of the public loader (Yaoyi-Li/GCA-Matting, then hustvl/ViTMatte), but every
random number is drawn first and the resizes, the affine transform, the enlargement and the crop are composed into
one pixel map per layer, so that only pixels of the crop are ever resampled. docs/data.md lists what that changes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.errors import InputError
from data.transforms import (
    Affine,
    AffineRange,
    ColourJitter,
    affine_for,
    affine_map,
    choose_corner,
    composite,
    crop_map,
    crop_trimap,
    draw_affine,
    draw_colour_jitter,
    draw_interpolation,
    enlarged_size,
    jitter_colour,
    join_alphas,
    join_foregrounds_exact,
    join_foregrounds_legacy,
    leaves_background,
    read_stretched,
    read_through,
    resize_map,
)
from data.transforms.geometry import Size
from data.transforms.interpolation import MODES
from data.trimap import trimap_from_alpha

SQUARE: Size = (640, 640)  # what a quarter of the foregrounds are squeezed to, their proportions lost
DIM_AFFINE = AffineRange()


@dataclass(frozen=True)
class DimRecipe:
    """The recipe's settings; the defaults are the public recipe.

    Args:
        crop_size: side of the training crop, pixels.
        trimap_erosion: smallest and largest side of the ellipses that erode the known regions, pixels.
        trimap_size: side of the square on which the trimap is made, or None for the foreground's own size.
        double_foreground_prob: how often a second foreground is laid behind the first.
        double_foreground: "legacy" or "exact" colour of the two (data/transforms/composite.py).
        resize640_prob: how often the foreground is first squeezed to 640 x 640.
        affine: ranges of the affine transform, or None to leave it out.
        interpolation: "random" kernel per layer, or "linear".
        colour_jitter: whether hue, saturation and value of the foreground are jittered.

    Raises:
        InputError: a setting is out of its range.
    """

    crop_size: int = 512
    trimap_erosion: tuple[int, int] = (1, 29)
    trimap_size: int | None = 640
    double_foreground_prob: float = 0.5
    double_foreground: str = "legacy"
    resize640_prob: float = 0.25
    affine: AffineRange | None = DIM_AFFINE
    interpolation: str = "random"
    colour_jitter: bool = True

    def __post_init__(self):
        smallest, largest = self.trimap_erosion
        if not 1 <= smallest <= largest:
            raise InputError(f"trimap_erosion: expected 1 <= smallest <= largest, got {self.trimap_erosion}")
        if self.crop_size < 1 or (self.trimap_size is not None and self.trimap_size < 1):
            raise InputError(f"crop_size and trimap_size: expected 1 or more, got {self.crop_size}, {self.trimap_size}")
        for name in ("double_foreground_prob", "resize640_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected a probability, got {getattr(self, name)}")
        _check_choice("double_foreground", self.double_foreground, ("legacy", "exact"))
        _check_choice("interpolation", self.interpolation, MODES)


@dataclass(frozen=True)
class DimDraw:
    """Every random number of one sample but the choice of files; interpolations are OpenCV flags."""

    double_foreground: bool
    squeeze: bool
    affine: Affine
    foreground_erosion: int
    background_erosion: int
    crop: tuple[float, float]
    jitter: ColourJitter
    interpolation_fg: int
    interpolation_alpha: int
    interpolation_fg2: int
    interpolation_alpha2: int
    interpolation_bg: int


@dataclass(frozen=True)
class Layer:
    """A foreground as it lies on disk: `fg` (H, W, 3) uint8 RGB and `alpha` (H, W) uint8."""

    fg: np.ndarray
    alpha: np.ndarray

    @property
    def size(self) -> Size:
        return self.alpha.shape


@dataclass(frozen=True)
class Crop:
    """One training crop: `image`, `fg`, `bg` (S, S, 3) float32 RGB and `alpha` (S, S) float32 in [0, 1]; `trimap`
    (S, S) uint8 of 0, 128 and 255."""

    image: np.ndarray
    fg: np.ndarray
    bg: np.ndarray
    alpha: np.ndarray
    trimap: np.ndarray


def draw_sample(recipe: DimRecipe, rng: np.random.Generator) -> DimDraw:
    """Draw all random numbers of one sample. How many are drawn does not depend on the settings."""
    smallest, largest = recipe.trimap_erosion
    return DimDraw(
        double_foreground=bool(rng.random() < recipe.double_foreground_prob),
        squeeze=bool(rng.random() < recipe.resize640_prob),
        affine=draw_affine(rng, recipe.affine or DIM_AFFINE),
        foreground_erosion=int(rng.integers(smallest, largest + 1)),
        background_erosion=int(rng.integers(smallest, largest + 1)),
        crop=(rng.random(), rng.random()),
        jitter=draw_colour_jitter(rng),
        interpolation_fg=draw_interpolation(rng, recipe.interpolation),
        interpolation_alpha=draw_interpolation(rng, recipe.interpolation),
        interpolation_fg2=draw_interpolation(rng, recipe.interpolation),
        interpolation_alpha2=draw_interpolation(rng, recipe.interpolation),
        interpolation_bg=draw_interpolation(rng, recipe.interpolation),
    )


def make_crop(layer: Layer, second: Layer | None, background: np.ndarray, drawn: DimDraw, recipe: DimRecipe) -> Crop:
    """Make the crop that `drawn` describes.

    Args:
        layer: the foreground.
        second: a foreground to lay behind it, or None. It is left out where the two would cover everything.
        background: (H, W, 3) uint8 RGB of any size; it is stretched to the foreground's canvas.
    """
    if second is not None and not leaves_background(layer.alpha, second.alpha):
        second = None
    alphas = _Alphas(layer, second, drawn)
    place = place_crop(lambda pixel_map, size: alphas.read(pixel_map, size)[0], layer.size, drawn, recipe)
    crop_size = (recipe.crop_size, recipe.crop_size)

    alpha, layer_alphas = alphas.read(place.to_layer, crop_size)
    fg = _read_foreground(layer, second, layer_alphas, place.to_layer, drawn, recipe) / np.float32(255)
    bg = read_stretched(background, place.canvas, place.corner, crop_size, drawn.interpolation_bg) / np.float32(255)
    if recipe.colour_jitter:
        fg = jitter_colour(fg, alpha, drawn.jitter)
    return Crop(composite(fg, bg, alpha), fg, bg, alpha, place.trimap)


@dataclass(frozen=True)
class Placement:
    """Where a crop lies: the window at `corner` (top, left) of `canvas`.

    Args:
        to_layer: pixel map from the crop into the layer as it lies on disk.
        canvas: the layer's size after squeeze and enlargement.
        trimap: (S, S) uint8 of 0, 128 and 255, of the crop.
    """

    to_layer: np.ndarray
    canvas: Size
    corner: tuple[int, int]
    trimap: np.ndarray


def place_crop(
    read_alpha: Callable[[np.ndarray, Size], np.ndarray], layer_size: Size, drawn: DimDraw, recipe: DimRecipe
) -> Placement:
    """Squeeze, transform, make the trimap, and lay the crop on an unknown pixel: the steps that need only alpha.

    Args:
        read_alpha: reads alpha, (H, W) float in [0, 1], of a size at a map into the layer.
    """
    canvas = SQUARE if drawn.squeeze else layer_size
    to_layer = _canvas_to_layer(layer_size, canvas, drawn.affine, recipe.affine)

    trimap_size = canvas if recipe.trimap_size is None else (recipe.trimap_size, recipe.trimap_size)
    trimap = trimap_from_alpha(
        read_alpha(to_layer @ resize_map(canvas, trimap_size), trimap_size),
        drawn.foreground_erosion,
        drawn.background_erosion,
    )

    large = enlarged_size(canvas, recipe.crop_size)
    corner = choose_corner(trimap, large, recipe.crop_size, drawn.crop)
    window = resize_map(canvas, large) @ crop_map(*corner)
    return Placement(to_layer @ window, large, corner, crop_trimap(trimap, large, corner, recipe.crop_size))


class _Alphas:
    """The alphas of one or two layers, converted to float once and read at several maps."""

    def __init__(self, layer: Layer, second: Layer | None, drawn: DimDraw):
        self.layers = [(layer.alpha.astype(np.float32), np.eye(3), drawn.interpolation_alpha)]
        if second is not None:
            to_second = resize_map(second.size, layer.size)  # the second is stretched over the first
            self.layers.append((second.alpha.astype(np.float32), to_second, drawn.interpolation_alpha2))

    def read(self, to_layer: np.ndarray, size: Size) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the joint alpha and each layer's own, (H, W) float32 in [0, 1], at a map into the first layer."""
        read = [
            np.clip(read_through(alpha, own_map @ to_layer, size, interpolation) / np.float32(255), 0, 1)
            for alpha, own_map, interpolation in self.layers
        ]
        return (read[0] if len(read) == 1 else join_alphas(*read)), read


def _canvas_to_layer(layer_size: Size, canvas: Size, affine: Affine, ranges: AffineRange | None) -> np.ndarray:
    to_layer = resize_map(layer_size, canvas)
    if ranges is None:
        return to_layer
    return to_layer @ affine_map(affine_for(affine, ranges, canvas), canvas)


def _read_foreground(
    layer: Layer,
    second: Layer | None,
    alphas: list[np.ndarray],
    to_layer: np.ndarray,
    drawn: DimDraw,
    recipe: DimRecipe,
) -> np.ndarray:
    """The colour of one layer or of two joined, (H, W, 3), 0..255, on the grid of `alphas`."""
    size = alphas[0].shape
    fg = read_through(layer.fg, to_layer, size, drawn.interpolation_fg)
    if second is None:
        return fg
    behind = read_through(second.fg, resize_map(second.size, layer.size) @ to_layer, size, drawn.interpolation_fg2)
    if recipe.double_foreground == "legacy":
        return join_foregrounds_legacy(fg, alphas[0], behind)
    return join_foregrounds_exact(fg, alphas[0], behind, alphas[1])


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
