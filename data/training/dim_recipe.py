"""The Deep Image Matting training recipe: from decoded layers to one crop.

The steps and their order are those of the public loader (Yaoyi-Li/GCA-Matting, then hustvl/ViTMatte), but every random
number is drawn first, and the resizes, the affine transform, the enlargement and the crop are combined into one pixel
map for each layer, so that only pixels of the crop are resampled. docs/data.md lists the effects of this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.images.trimap import trimap_from_alpha
from data.training.realism import Look
from data.transforms import (
    CANDIDATE_STEP,
    Affine,
    AffineRange,
    ColourJitter,
    LanczosAlpha,
    affine_for,
    affine_map,
    cell_range,
    centre_range,
    choose_corner,
    choose_fractional_corner,
    composite_planes,
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
    read_where,
    resize_map,
)
from data.transforms.geometry import Size
from data.transforms.interpolation import MODES
from runtime.errors import InputError, require_choice

SQUARE: Size = (640, 640)  # size to which a quarter of the foregrounds are resized without regard to proportions
DIM_AFFINE = AffineRange()


@dataclass(frozen=True)
class DimRecipe:
    """The recipe's settings; the defaults are the public recipe.

    Args:
        crop_size: side of the training crop in pixels, or a list of sides, of which one is drawn for each sample. Crops
            of a list are resized to the smallest side, and their trimaps are made from the resized alpha. Deep Image
            Matting trains on crops of 320, 480 and 640 pixels at 320 x 320 (Xu et al., 2017).
        trimap_erosion: smallest and largest side in pixels of the ellipses that erode the known regions.
        trimap_size: side of the square on which the trimap is made, or None for the foreground's own size.
        double_foreground_prob: probability of a second foreground behind the first.
        double_foreground: "legacy" or "exact" colour of the two (data/transforms/composite.py).
        resize640_prob: probability of resizing the foreground to 640 x 640 first.
        affine: ranges of the affine transform, or None for no transform.
        interpolation: "random" kernel for each layer, or "linear".
        colour_jitter: whether hue, saturation and value of the foreground are jittered.
        crop_centre: "trimap" centres the crop on an unknown pixel of the trimap of the whole canvas, as in the public
            recipe. "fractional" centres it on a pixel with an alpha between 0 and 1, and makes the trimap from the
            alpha of the crop, as in Deep Image Matting.

    Raises:
        InputError: a setting is out of its range.
    """

    crop_size: int | Sequence[int] = 512
    trimap_erosion: tuple[int, int] = (1, 29)
    trimap_size: int | None = 640
    double_foreground_prob: float = 0.5
    double_foreground: str = "legacy"
    resize640_prob: float = 0.25
    affine: AffineRange | None = DIM_AFFINE
    interpolation: str = "random"
    colour_jitter: bool = True
    crop_centre: str = "trimap"

    def __post_init__(self):
        smallest, largest = self.trimap_erosion
        if not 1 <= smallest <= largest:
            raise InputError(f"trimap_erosion: expected 1 <= smallest <= largest, got {self.trimap_erosion}")
        if not self.crop_sides or not all(isinstance(side, int) and side >= 1 for side in self.crop_sides):
            raise InputError(
                f"crop_size: expected a whole number of 1 or more, or a list of them, got {self.crop_size}"
            )
        if self.trimap_size is not None and self.trimap_size < 1:
            raise InputError(f"trimap_size: expected 1 or more, got {self.trimap_size}")
        for name in ("double_foreground_prob", "resize640_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}: expected a probability, got {getattr(self, name)}")
        require_choice("double_foreground", self.double_foreground, ("legacy", "exact"))
        require_choice("interpolation", self.interpolation, MODES)
        require_choice("crop_centre", self.crop_centre, ("trimap", "fractional"))

    @property
    def crop_sides(self) -> tuple[int, ...]:
        """Sides from which that of a crop is drawn."""
        return tuple(self.crop_size) if isinstance(self.crop_size, Sequence) else (self.crop_size,)

    @property
    def border(self) -> int:
        """Border of layers beyond their frame: transparent, as published, if they are rotated or resized.

        A crop of Deep Image Matting's own recipe is within the frame. In that case the border replicates pixels, so
        that enlarging and mirroring create no transparent rim in a foreground that the frame cuts.
        """
        within = self.crop_centre == "fractional" and self.affine.keeps_frame
        return cv2.BORDER_REPLICATE if within else cv2.BORDER_CONSTANT

    def side_of(self, drawn: "DimDraw") -> int:
        """Side of the crop of a sample."""
        return self.crop_sides[int(drawn.crop_choice * len(self.crop_sides))]

    def at_one_size(self, values: np.ndarray) -> np.ndarray:
        """Values of a crop, (S, S) or (S, S, 3) float32, resized to the smallest side, the size of every sample."""
        side = min(self.crop_sides)
        return cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class DimDraw:
    """All random numbers of one sample except the choice of files; interpolations are OpenCV flags."""

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
    crop_choice: float
    zoom: float | None = None  # zoom of the foreground, instead of `squeeze`; None for none

    def trimap_of(self, alpha: np.ndarray, step: int = 1) -> np.ndarray:
        """Trimap of an alpha, see `trimap_from_alpha`."""
        return trimap_from_alpha(alpha, self.foreground_erosion, self.background_erosion, step=step)


@dataclass(frozen=True)
class Layer:
    """A foreground as stored on disk: `fg` (H, W, 3) uint8 RGB and `alpha` (H, W) uint8."""

    fg: np.ndarray
    alpha: np.ndarray

    @property
    def size(self) -> Size:
        return self.alpha.shape


@dataclass(frozen=True)
class Crop:
    """One training crop: `image`, `fg`, `bg` (S, S, 3) float32 RGB and `alpha` (S, S) float32 in [0, 1]; `trimap`
    (S, S) uint8 of 0, 128 and 255. `fg` and `bg` are None unless they were requested.

    The colours are views of (3, S, S) memory, so that converting them to tensors copies nothing."""

    image: np.ndarray
    fg: np.ndarray | None
    bg: np.ndarray | None
    alpha: np.ndarray
    trimap: np.ndarray


def draw_sample(recipe: DimRecipe, rng: np.random.Generator) -> DimDraw:
    """Draw all random numbers of one sample. The number of draws does not depend on the settings."""
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
        crop_choice=rng.spawn(1)[0].random(),  # from a separate stream, so that older draws are unchanged
    )


def make_crop(
    layer: Layer,
    second: Layer | None,
    background: np.ndarray,
    drawn: DimDraw,
    recipe: DimRecipe,
    return_layers: bool = True,
    look: Look | None = None,
) -> Crop:
    """Make the crop that `drawn` describes.

    Args:
        layer: the foreground.
        second: a foreground to place behind it, or None. It is omitted if the two would cover everything.
        background: (H, W, 3) uint8 RGB of any size; it is stretched to the canvas of the foreground.
        return_layers: whether the crop has `fg` and `bg`. Without them, expensive kernels are computed only at visible
            pixels. The rest of the crop is bit for bit the same.
        look: background, trimap and camera instead of the recipe's plain ones; None for the public recipe. The image is
            then no exact composite of `fg` and `bg`. The same holds if crops of several sizes are resized.
    """
    if second is not None and not leaves_background(layer.alpha, second.alpha):
        second = None
    alphas = _Alphas(layer, second, drawn, recipe.border)
    place = place_crop(lambda pixel_map, size: alphas.read(pixel_map, size)[0], layer.size, drawn, recipe)
    crop_size = (recipe.side_of(drawn),) * 2

    alpha, layer_alphas = alphas.read(place.to_layer, crop_size)
    colours = _Colours(layer, second, drawn, recipe.border, everywhere=return_layers)
    fg = colours.read(place.to_layer, layer_alphas, recipe.double_foreground)
    if recipe.colour_jitter:
        fg = jitter_colour(fg, alpha, drawn.jitter)
    if look is None:
        bg = read_stretched(background, place.canvas, place.corner, crop_size, drawn.interpolation_bg)
        trimap = place.trimap
    else:
        bg = look.background(background, crop_size, fg, alpha)
        fg = look.foreground(fg, bg, alpha)
        trimap = look.draw_trimap(alpha)
    fg, bg = _planes(fg), _planes(bg)
    image = composite_planes(fg, bg, alpha, out=None if return_layers else fg)
    image, fg, bg = (planes.transpose(1, 2, 0) for planes in (image, fg, bg))
    if look is not None:
        image = _planes(look.photograph(image)).transpose(1, 2, 0)
    crop = Crop(image, fg if return_layers else None, bg if return_layers else None, alpha, trimap)
    return crop if len(recipe.crop_sides) == 1 else _resized(crop, drawn, recipe, look)


def _resized(crop: Crop, drawn: DimDraw, recipe: DimRecipe, look: Look | None) -> Crop:
    """The crop at the size of every sample. Its image is the resized composite, as in Deep Image Matting."""
    alpha = recipe.at_one_size(crop.alpha)
    fg, bg = (None if colours is None else recipe.at_one_size(colours) for colours in (crop.fg, crop.bg))
    trimap = drawn.trimap_of(alpha) if look is None else look.draw_trimap(alpha)
    return Crop(recipe.at_one_size(crop.image), fg, bg, alpha, trimap)


@dataclass(frozen=True)
class Placement:
    """Position of a crop: the window at `corner` (top, left) of `canvas`.

    Args:
        to_layer: pixel map from the crop into the layer as stored on disk.
        canvas: size of the layer after resizing and enlargement.
        trimap: (S, S) uint8 trimap of the crop, of 0, 128 and 255.
    """

    to_layer: np.ndarray
    canvas: Size
    corner: tuple[int, int]
    trimap: np.ndarray


def place_crop(
    read_alpha: Callable[[np.ndarray, Size], np.ndarray], layer_size: Size, drawn: DimDraw, recipe: DimRecipe
) -> Placement:
    """Resize, transform, make the trimap, and place the crop on an unknown pixel: the steps that need only alpha.

    Args:
        read_alpha: function that reads alpha, (H, W) float in [0, 1], of a size at a map into the layer.
    """
    canvas = _squeezed_size(layer_size, drawn)
    to_layer = _canvas_to_layer(layer_size, canvas, drawn.affine, recipe.affine)

    side = recipe.side_of(drawn)
    large = enlarged_size(canvas, side)
    if recipe.crop_centre == "fractional":
        to_canvas = to_layer @ resize_map(canvas, large)
        corner = choose_fractional_corner(read_alpha(to_canvas, large), side, drawn.crop[0])
        window = to_canvas @ crop_map(*corner)
        return Placement(window, large, corner, drawn.trimap_of(read_alpha(window, (side, side))))
    cells = canvas if recipe.trimap_size is None else (recipe.trimap_size, recipe.trimap_size)
    grid = _TrimapGrid(read_alpha, to_layer @ resize_map(canvas, cells), cells, drawn)

    thinned = recipe.trimap_size is None and large == canvas  # otherwise crop centres and cells do not coincide
    centres = grid.trimap(centre_range(large, side, cells), step=CANDIDATE_STEP if thinned else 1)
    corner = choose_corner(centres, large, side, drawn.crop)
    shown = grid.trimap(cell_range(corner, (side, side), large, cells))

    window = resize_map(canvas, large) @ crop_map(*corner)
    return Placement(to_layer @ window, large, corner, crop_trimap(shown, large, corner, side))


class _TrimapGrid:
    """Trimap on a grid of cells over the canvas, computed only where it is read.

    Args:
        read_alpha: as in `place_crop`.
        to_layer: map from the grid into the layer.
        cells: (height, width) of the grid.
    """

    def __init__(
        self, read_alpha: Callable[[np.ndarray, Size], np.ndarray], to_layer: np.ndarray, cells: Size, drawn: DimDraw
    ):
        self.read_alpha, self.to_layer, self.cells, self.drawn = read_alpha, to_layer, cells, drawn

    def trimap(self, part: tuple[slice, slice], step: int = 1) -> np.ndarray:
        """Trimap in a part of the grid, with the values of the whole; (h, w) uint8 of the grid's size, 0 elsewhere.

        With `step`, only every step-th row and column of the part is made, see `data.images.trimap.trimap_from_alpha`.
        """
        reach = max(self.drawn.foreground_erosion, self.drawn.background_erosion) // 2
        reach += -reach % step
        starts = [max(side.start - reach, side.start % step) for side in part]
        stops = [min(side.stop + reach, length) for side, length in zip(part, self.cells, strict=True)]
        size = tuple(-(-(stop - start) // step) for start, stop in zip(starts, stops, strict=True))

        every = np.diag([step, step, 1.0])
        alpha = self.read_alpha(self.to_layer @ crop_map(*starts) @ every, size)
        made = self.drawn.trimap_of(alpha, step)
        whole = np.zeros(self.cells, np.uint8)
        strided = tuple(slice(side.start, side.stop, step) for side in part)
        inside = tuple(
            slice((side.start - start) // step, (side.start - start) // step + len(range(side.start, side.stop, step)))
            for side, start in zip(part, starts, strict=True)
        )
        whole[strided] = made[inside]
        return whole


def canvas_size(layer_size: Size, drawn: DimDraw, recipe: DimRecipe) -> Size:
    """Size to which the background is stretched: that of the layer after resizing and enlargement."""
    return enlarged_size(_squeezed_size(layer_size, drawn), recipe.side_of(drawn))


def _squeezed_size(layer_size: Size, drawn: DimDraw) -> Size:
    if drawn.zoom is not None:
        return tuple(max(1, round(side * drawn.zoom)) for side in layer_size)
    return SQUARE if drawn.squeeze else layer_size


class _Alphas:
    """Alphas of one or two layers, each of which can be read at several maps."""

    def __init__(self, layer: Layer, second: Layer | None, drawn: DimDraw, border: int):
        self.layers = [(_alpha_reader(layer.alpha, drawn.interpolation_alpha, border), np.eye(3))]
        if second is not None:
            to_second = resize_map(second.size, layer.size)  # the second is stretched to the size of the first
            self.layers.append((_alpha_reader(second.alpha, drawn.interpolation_alpha2, border), to_second))

    def read(self, to_layer: np.ndarray, size: Size) -> tuple[np.ndarray, list[np.ndarray]]:
        """Joint alpha and the alpha of each layer, (H, W) float32 in [0, 1], at a map into the first layer."""
        read = [unit_alpha(reader(own_map @ to_layer, size)) for reader, own_map in self.layers]
        return (read[0] if len(read) == 1 else join_alphas(*read)), read


def _alpha_reader(alpha: np.ndarray, interpolation: int, border: int) -> Callable[[np.ndarray, Size], np.ndarray]:
    """Reader of levels of alpha at a map, as floats, so that nothing is rounded unless levels are only moved."""
    if interpolation == cv2.INTER_LANCZOS4:
        return LanczosAlpha(alpha).read
    source = alpha if interpolation == cv2.INTER_NEAREST else alpha.astype(np.float32)
    return lambda pixel_map, size: read_through(source, pixel_map, size, interpolation, border)


def unit_alpha(levels: np.ndarray) -> np.ndarray:
    """Convert levels 0..255 to float32 in [0, 1]; values outside, created by a kernel, are clipped."""
    alpha = levels / np.float32(255)
    return np.clip(alpha, 0, 1, out=alpha)


class _Colours:
    """Colours of one or two layers, read where they are visible or everywhere."""

    def __init__(self, layer: Layer, second: Layer | None, drawn: DimDraw, border: int, everywhere: bool):
        self.layer, self.second, self.drawn = layer, second, drawn
        self.border, self.everywhere = border, everywhere

    def read(self, to_layer: np.ndarray, alphas: list[np.ndarray], double_foreground: str) -> np.ndarray:
        """Colour of the layer or of the two joined, (H, W, 3) float32 in [0, 1], on the grid of `alphas`."""
        alpha = alphas[0]
        fg = self._read(self.layer.fg, to_layer, alpha > 0, self.drawn.interpolation_fg)
        if self.second is None:
            return fg / np.float32(255)
        to_second = resize_map(self.second.size, self.layer.size) @ to_layer
        behind = self._read(self.second.fg, to_second, self._shows_behind(alphas), self.drawn.interpolation_fg2)
        if double_foreground == "legacy":
            joined = join_foregrounds_legacy(fg, alpha, behind)
        else:
            joined = join_foregrounds_exact(fg, alpha, behind, alphas[1])
        return np.divide(joined, np.float32(255), out=joined)

    def _read(self, fg: np.ndarray, pixel_map: np.ndarray, shows: np.ndarray, interpolation: int) -> np.ndarray:
        if interpolation != cv2.INTER_LANCZOS4:  # cheaper everywhere than at selected pixels
            return read_through(fg, pixel_map, shows.shape, interpolation, self.border)
        wanted = np.ones_like(shows) if self.everywhere else shows
        return read_where(wanted, fg, pixel_map, interpolation, self.border)

    @staticmethod
    def _shows_behind(alphas: list[np.ndarray]) -> np.ndarray:
        """Mask where a second foreground's colour has an effect, in both kinds of joining. The legacy kind mixes it
        into all soft pixels of the first."""
        alpha, alpha_behind = alphas
        return (alpha < 1) & ((alpha > 0) | (alpha_behind > 0))


def _planes(colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) as (3, H, W) float32 in [0, 1], from float32 in [0, 1] or uint8."""
    planes = np.empty((3, *colours.shape[:2]), np.float32)
    if colours.dtype == np.float32:
        cv2.split(colours, list(planes))
        return planes
    for plane, channel in zip(planes, cv2.split(colours), strict=True):
        np.divide(channel, np.float32(255), out=plane)
    return planes


def _canvas_to_layer(layer_size: Size, canvas: Size, affine: Affine, ranges: AffineRange | None) -> np.ndarray:
    to_layer = resize_map(layer_size, canvas)
    if ranges is None:
        return to_layer
    return to_layer @ affine_map(affine_for(affine, ranges, canvas), canvas)
