"""Pure steps of a training sample: draws take a numpy Generator, and steps take the result of a draw."""

from data.transforms.affine import Affine, AffineRange, affine_for, affine_map, draw_affine
from data.transforms.colour import ColourJitter, draw_colour_jitter, jitter_colour
from data.transforms.composite import (
    composite,
    composite_planes,
    join_alphas,
    join_foregrounds_exact,
    join_foregrounds_legacy,
    leaves_background,
)
from data.transforms.crop import (
    CANDIDATE_STEP,
    cell_range,
    centre_range,
    choose_corner,
    choose_fractional_corner,
    crop_trimap,
    enlarged_size,
    unknown_corners,
)
from data.transforms.geometry import (
    LanczosAlpha,
    crop_map,
    nearest_indices,
    read_stretched,
    read_through,
    read_where,
    resize_map,
)
from data.transforms.interpolation import draw_interpolation

__all__ = [
    "CANDIDATE_STEP",
    "Affine",
    "AffineRange",
    "ColourJitter",
    "LanczosAlpha",
    "affine_for",
    "affine_map",
    "cell_range",
    "centre_range",
    "choose_corner",
    "choose_fractional_corner",
    "composite",
    "composite_planes",
    "crop_map",
    "crop_trimap",
    "draw_affine",
    "draw_colour_jitter",
    "draw_interpolation",
    "enlarged_size",
    "jitter_colour",
    "join_alphas",
    "join_foregrounds_exact",
    "join_foregrounds_legacy",
    "leaves_background",
    "nearest_indices",
    "read_stretched",
    "read_through",
    "read_where",
    "resize_map",
    "unknown_corners",
]
