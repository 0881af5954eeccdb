"""Closed-form matting (Levin, Lischinski and Weiss, 2008) in torch, for batches, on any device."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.classical import local_linear, matting_laplacian
from modeling.classical.blocks import Blocks, Tiles, WholeImages
from modeling.classical.coarse_correction import CoarseCorrection
from modeling.classical.conjugate_gradients import conjugate_gradients
from modeling.classical.matting_laplacian import REACH
from modeling.classical.whole_table import solve_whole

EPSILON = 1e-7  # PyMatting's, for colours in [0, 1]
TILE = 32  # pixels
SCALES = 5  # of corrections; 2 ** SCALES is at most a tile
SMALLEST_SIDE = 48
WHOLE_LIMIT = 2**21  # pixels of an image that an accelerator handles whole


class Effort(NamedTuple):
    """When to stop.

    Attributes:
        iterations: of conjugate gradients at each size of the image, at most.
        tolerance: norm of the residual, relative to that of the right-hand side, that is small enough.
        check_every: iterations between two looks at the residual. Each look waits for the device; None never looks.
        smallest_side: pixels; the image is halved while its height and width stay at least as large.
        plain: conjugate gradients without coarse corrections, on whole images, see `modeling.classical.whole_table`.
    """

    iterations: int
    tolerance: float
    check_every: int | None
    smallest_side: int = SMALLEST_SIDE
    plain: bool = False


@torch.no_grad()
def closed_form_alpha(
    image: Tensor,
    trimap: Tensor,
    *,
    epsilon: float = EPSILON,
    scale: int = 1,
    max_pixels: int | None = None,
    iterations: int = 30,
    tolerance: float = 1e-4,
    check_every: int | None = 10,
) -> Tensor:
    """Alpha that is, in every 3 x 3 window, as linear in the colours as the known pixels allow.

    Solves the system of Levin et al., 2008, at a small size of the image, and carries the solution up by its local
    linear models to be the start at twice the size, to the size itself or `scale` times less.

    Args:
        image: (B, 3, H, W) float, colours in [0, 1].
        trimap: (B, 1, H, W) float: 0 background, 1 foreground, everything else is unknown.
        epsilon: the regularisation of the window covariances.
        scale: 1, or a power of two: the last size at which the system is solved is H / scale x W / scale; alpha
            of the full size follows by the local linear models alone.
        max_pixels: raises `scale` until the image solved has at most so many pixels.
        iterations, tolerance, check_every: see `Effort`.

    Returns:
        (B, 1, H, W) float32 (float64 if the image is), in [0, 1], without gradient; known pixels as given. An image
        without known foreground (background) is all background (foreground) where it is unknown; one without any
        known pixel is 0.5. Images under three pixels in height or width are extended to three by their last pixels.

    Raises:
        ValueError: shapes that do not fit, a scale that is no power of two.

    Example:
        >>> image, trimap = torch.rand(1, 3, 480, 640), torch.full((1, 1, 480, 640), 0.5)
        >>> trimap[..., :100], trimap[..., 500:] = 0, 1
        >>> alpha = closed_form_alpha(image, trimap)
    """
    effort = Effort(iterations, tolerance, check_every)
    return closed_form(image, trimap, effort, epsilon=epsilon, scale=scale, max_pixels=max_pixels)[0]


@torch.no_grad()
def closed_form(
    image: Tensor, trimap: Tensor, effort: Effort, *, epsilon: float, scale: int, max_pixels: int | None
) -> tuple[Tensor, Tensor]:
    """As `closed_form_alpha`, with the misfit of the local linear models of half the size, (B, 1, H, W).

    The misfit is a root mean square in units of alpha, 0 at known pixels.
    """
    _check(image, trimap, scale)
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
        height, width = image.shape[-2:]
        image = _at_least_three(image.to(dtype))
        trimap = _at_least_three(_cleaned(trimap.to(dtype)))
        while max_pixels and height * width > max_pixels * scale**2:
            scale *= 2
        sizes = _pyramid(image, trimap, scale, effort.smallest_side)
        alpha, misfit = None, None
        for level in range(len(sizes) - 1, -1, -1):
            alpha, misfit = _solve(sizes, level, alpha, effort, epsilon, only_carry_up=2**level < scale)
        alpha = torch.where(sizes[0][1] == 0.5, _where_undetermined(sizes[0][1], alpha), sizes[0][1])
        return alpha[..., :height, :width], misfit[..., :height, :width]


def _check(image: Tensor, trimap: Tensor, scale: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"image: expected float (B, 3, H, W), got {image.dtype} {tuple(image.shape)}")
    if trimap.shape != (image.shape[0], 1, *image.shape[2:]):
        raise ValueError(f"trimap: expected {(image.shape[0], 1, *image.shape[2:])}, got {tuple(trimap.shape)}")
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale: expected a power of two, got {scale}")


def _cleaned(trimap: Tensor) -> Tensor:
    return torch.where((trimap == 0) | (trimap == 1), trimap, 0.5)


def _at_least_three(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return F.pad(x, (0, max(0, 3 - width), 0, max(0, 3 - height)), mode="replicate") if min(height, width) < 3 else x


def _pyramid(image: Tensor, trimap: Tensor, scale: int, smallest: int) -> list[tuple[Tensor, Tensor]]:
    """Image and trimap at the full size, half of it (rounded up), and so on, to one `scale` times smaller at least."""
    sizes = [(image, trimap)]
    while min(image.shape[-2:]) >= (6 if 2 ** len(sizes) <= scale else 2 * smallest):
        image, trimap = _halved(image), _halved(trimap)
        trimap = torch.where((trimap == 0) | (trimap == 1), trimap, 0.5)
        sizes.append((image, trimap))
    return sizes


def _halved(x: Tensor) -> Tensor:
    """Mean of each 2 x 2 pixels; an odd last row or column is repeated."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4


def _where_undetermined(trimap: Tensor, alpha: Tensor) -> Tensor:
    """Alpha of images that lack known foreground or background; constants cost nothing, so these are solutions."""
    foreground, background = ((trimap == level).flatten(1).any(dim=1).view(-1, 1, 1, 1) for level in (1, 0))
    constant = torch.where(foreground, 1.0, torch.where(background, 0.0, 0.5)).to(alpha.dtype)
    return torch.where(foreground & background, alpha, constant)


def _solve(
    sizes: list[tuple[Tensor, Tensor]],
    level: int,
    coarser_alpha: Tensor | None,
    effort: Effort,
    epsilon: float,
    only_carry_up: bool,
) -> tuple[Tensor, Tensor]:
    """Alpha of one size from that of the next smaller one (None at the smallest), and its models' misfit."""
    image, trimap = sizes[level]
    unknown = trimap == 0.5
    whole = image.device.type != "cpu" and image.shape[-2] * image.shape[-1] <= WHOLE_LIMIT
    blocks = WholeImages(unknown, 2**SCALES) if whole else Tiles(unknown, TILE)
    alpha, misfit = trimap.clone(), torch.zeros_like(trimap)
    if coarser_alpha is not None:
        models = [_carry_up(blocks, sizes[level + 1][0], coarser_alpha, image, chunk) for chunk in blocks.chunks()]
        if models:
            blocks.scatter(torch.cat([start.clamp(0, 1) for start, _ in models]), alpha)
            blocks.scatter(torch.cat([residual for _, residual in models]), misfit)
        alpha, misfit = torch.where(unknown, alpha, trimap), torch.where(unknown, misfit, 0)
    if (not only_carry_up or coarser_alpha is None) and blocks.chunks():
        alpha = torch.where(unknown, _improved(blocks, image, trimap, alpha, effort, epsilon).clamp(0, 1), trimap)
    return alpha, misfit


def _carry_up(
    blocks: Blocks, coarse_image: Tensor, coarse_alpha: Tensor, image: Tensor, chunk: slice
) -> tuple[Tensor, Tensor]:
    margin = local_linear.MARGIN
    return local_linear.carry_up(
        blocks.gather(coarse_image, margin, shrunk=2, mode="replicate", chunk=chunk),
        blocks.gather(coarse_alpha, margin, shrunk=2, mode="replicate", chunk=chunk),
        blocks.gather(image, chunk=chunk),
    )


def _improved(blocks: Blocks, image: Tensor, trimap: Tensor, alpha: Tensor, effort: Effort, epsilon: float) -> Tensor:
    """Alpha after conjugate gradients on the unknown pixels, known ones fixed."""
    if effort.plain:
        return solve_whole(image, trimap, alpha, epsilon, effort.iterations)
    inside = torch.ones_like(alpha)
    coefficients = torch.cat([_stencil(blocks, image, inside, epsilon, chunk) for chunk in blocks.chunks()])
    diagonal = matting_laplacian.diagonal_of(coefficients)

    def of_full_system(x: Tensor) -> Tensor:
        with_margin = blocks.gather(x, REACH)
        inner = with_margin[..., REACH:-REACH, REACH:-REACH]
        return matting_laplacian.add_product(coefficients, with_margin, diagonal * inner)

    residual = -of_full_system(alpha)
    right_hand_side = -of_full_system(torch.where(trimap == 0.5, 0, alpha))
    # With unknowns x = scale y the diagonal is one; a scale of 0 takes the known pixels out of the system.
    floor = 16 * torch.finfo(alpha.dtype).eps  # of a diagonal that rounding alone makes positive
    scale = blocks.gather((trimap == 0.5).to(alpha.dtype)) * diagonal.clamp_min(floor).rsqrt()
    matting_laplacian.scale_symmetrically(coefficients, blocks.with_margin(scale, REACH))
    right_hand_side *= scale
    residual *= scale
    y, _ = conjugate_gradients(
        lambda y: matting_laplacian.add_product(coefficients, blocks.with_margin(y, REACH), y.clone()),
        CoarseCorrection(blocks.gather(image), blocks.gather(inside), scale, blocks, SCALES),
        residual,
        blocks.dot,
        effort.iterations,
        goal=effort.tolerance**2 * blocks.dot(right_hand_side, right_hand_side),
        check_every=effort.check_every,
    )
    improved = alpha.clone()
    blocks.scatter(blocks.gather(alpha) + scale * y, improved)
    return improved


def _stencil(blocks: Blocks, image: Tensor, inside: Tensor, epsilon: float, chunk: slice) -> Tensor:
    margin = matting_laplacian.MARGIN
    parts = (blocks.gather(x, margin, chunk=chunk) for x in (image, inside))
    return matting_laplacian.stencil(*parts, epsilon)
