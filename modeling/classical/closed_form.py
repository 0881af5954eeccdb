"""Closed-form matting (Levin, Lischinski and Weiss, 2008) in torch, for batches on any device."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.classical import local_linear, matting_laplacian
from modeling.classical.blocks import Blocks, Tiles, WholeImages
from modeling.classical.conjugate_gradients import conjugate_gradients
from modeling.classical.matting_laplacian import REACH
from modeling.classical.preconditioner import SCALES, Preconditioner
from modeling.classical.whole_table import solve_whole

EPSILON = 1e-7  # as in PyMatting, for colours in [0, 1]
TILE = 32  # pixels
SMALLEST_SIDE = 48
WHOLE_LIMIT = 2**21  # pixels; an accelerator processes images up to this size as a whole


class Effort(NamedTuple):
    """Stopping criteria of the solver.

    Attributes:
        iterations: largest number of conjugate gradient iterations at each size of the image.
        tolerance: norm of the residual relative to that of the right-hand side at which an image is finished.
        check_every: iterations between checks of the residual. Each check waits for the device; None for no checks.
        smallest_side: smallest height and width in pixels to which the image is halved.
        plain: whether conjugate gradients use the diagonal as their only preconditioner, on whole images; see
            `modeling.classical.whole_table`.
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
    iterations: int = 20,
    tolerance: float = 1e-6,
    check_every: int | None = 10,
) -> Tensor:
    """Alpha that is as linear in the colours of every 3 x 3 window as the known pixels allow.

    The system of Levin et al., 2008, is solved at a small size of the image. The solution is enlarged by its local
    linear models and is the initial value at twice the size, up to the full size or to 1 / `scale` of it.

    Args:
        image: (B, 3, H, W) float, colours in [0, 1].
        trimap: (B, 1, H, W) float: 0 background, 1 foreground, every other value is unknown.
        epsilon: regularisation of the window covariances.
        scale: 1 or another power of two. The last size that is solved is H / scale x W / scale; alpha of the full size
            follows from the local linear models.
        max_pixels: largest number of pixels of the last size; `scale` is increased to satisfy it.
        iterations, tolerance, check_every: stopping criteria, see `Effort`.

    Returns:
        (B, 1, H, W) float32 (float64 if the image is), in [0, 1], without gradient; known pixels as given. The unknown
        pixels of an image are background if it has no known foreground, foreground if it has no known background, and
        0.5 if it has no known pixel. Images with fewer than three rows or columns are extended to three by their last
        pixels.

    Raises:
        ValueError: shapes that do not match, a scale that is not a power of two.

    Example:
        >>> image = torch.linspace(0, 1, 32).expand(1, 3, 8, 32)  # black at the left, white at the right
        >>> trimap = torch.full((1, 1, 8, 32), 0.5)
        >>> trimap[..., :4], trimap[..., -4:] = 0, 1
        >>> alpha = closed_form_alpha(image, trimap)
        >>> alpha.shape, alpha[0, 0, 0, 0].item(), alpha[0, 0, 0, -1].item()
        (torch.Size([1, 1, 8, 32]), 0.0, 1.0)
    """
    effort = Effort(iterations, tolerance, check_every)
    return closed_form(image, trimap, effort, epsilon=epsilon, scale=scale, max_pixels=max_pixels)[0]


@torch.no_grad()
def closed_form(
    image: Tensor,
    trimap: Tensor,
    effort: Effort,
    *,
    epsilon: float = EPSILON,
    scale: int = 1,
    max_pixels: int | None = None,
    with_misfit: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Result of `closed_form_alpha`, and the misfit of the local linear models at half the size, (B, 1, H, W).

    The misfit is a root mean square error in units of alpha, and 0 at known pixels.
    """
    _check(image, trimap, scale)
    with torch.autocast(image.device.type, enabled=False):
        dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
        height, width = image.shape[-2:]
        while max_pixels and height * width > max_pixels * scale**2:
            scale *= 2
        image, trimap = _at_least_three(image.to(dtype)), _at_least_three(trimap.to(dtype))
        sizes = [(image, _without_grey(trimap))]
        while min(sizes[-1][0].shape[-2:]) >= (6 if 2 ** len(sizes) <= scale else 2 * effort.smallest_side):
            sizes.append((_halved(sizes[-1][0]), _without_grey(_halved(sizes[-1][1]))))
        coarser, misfit = None, None
        while sizes:
            image, alpha = sizes.pop()
            unknown = alpha == 0.5
            blocks = _blocks(unknown)
            if coarser is not None:
                misfit = _carry_up(blocks, *coarser, image, alpha, unknown, with_misfit and not sizes)
            is_smallest, coarser = coarser is None, None  # frees the memory of `coarser` for the next size
            if blocks.count and (is_smallest or 2 ** len(sizes) >= scale):
                _improve(blocks, image, alpha, unknown, effort, epsilon)
            coarser = image, alpha
        alpha = _where_determined(trimap, alpha)
        if with_misfit and misfit is None:
            misfit = torch.zeros_like(alpha)
        return alpha[..., :height, :width], misfit[..., :height, :width] if with_misfit else None


def _check(image: Tensor, trimap: Tensor, scale: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"image: expected float (B, 3, H, W), got {image.dtype} {tuple(image.shape)}")
    if trimap.shape != (image.shape[0], 1, *image.shape[2:]):
        raise ValueError(f"trimap: expected {(image.shape[0], 1, *image.shape[2:])}, got {tuple(trimap.shape)}")
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale: expected a power of two, got {scale}")


def _at_least_three(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return F.pad(x, (0, max(0, 3 - width), 0, max(0, 3 - height)), mode="replicate") if min(height, width) < 3 else x


def _without_grey(trimap: Tensor) -> Tensor:
    """Copy with 0.5 at every pixel that is neither 0 nor 1."""
    return torch.where((trimap == 0) | (trimap == 1), trimap, 0.5)


def _halved(x: Tensor) -> Tensor:
    """Mean of each 2 x 2 pixels; at an odd size the last row or column has fewer pixels."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _blocks(unknown: Tensor) -> Blocks:
    whole = unknown.device.type != "cpu" and unknown.shape[-2] * unknown.shape[-1] <= WHOLE_LIMIT
    return WholeImages(unknown, 2**SCALES) if whole else Tiles(unknown, TILE)


def _where_determined(trimap: Tensor, alpha: Tensor) -> Tensor:
    """Alpha, replaced by a constant in images that lack known foreground or background. A constant has no cost."""
    foreground, background = ((trimap == level).flatten(1).any(dim=1).view(-1, 1, 1, 1) for level in (1, 0))
    constant = torch.where(foreground, 1.0, torch.where(background, 0.0, 0.5)).to(alpha.dtype)
    return torch.where((foreground & background) | (trimap == 0) | (trimap == 1), alpha, constant)


def _carry_up(
    blocks: Blocks,
    coarse_image: Tensor,
    coarse_alpha: Tensor,
    image: Tensor,
    alpha: Tensor,
    unknown: Tensor,
    with_misfit: bool,
) -> Tensor | None:
    """Write alpha at the unknown pixels from the models of half the size, and return the misfit if it is requested."""

    def models(part: Blocks) -> Tensor:
        near = (part.gather(x, local_linear.MARGIN, 2, "replicate") for x in (coarse_image, coarse_alpha))
        carried, misfit = local_linear.carry_up(*near, part.gather(image))
        known = ~part.gather(unknown)
        carried = torch.where(known, part.gather(alpha), carried.clamp(0, 1))
        return torch.cat([carried, misfit.masked_fill(known, 0)], dim=1) if with_misfit else carried

    misfit = torch.zeros_like(alpha) if with_misfit else None
    if blocks.count:
        channels = blocks.in_chunks(models)
        blocks.scatter(channels[:, :1], alpha)
        if with_misfit:
            blocks.scatter(channels[:, 1:], misfit)
    return misfit


def _improve(blocks: Blocks, image: Tensor, alpha: Tensor, unknown: Tensor, effort: Effort, epsilon: float) -> None:
    """Improve the unknown pixels of alpha by conjugate gradients, in place."""
    if effort.plain:
        solved = solve_whole(image, unknown, alpha, epsilon, effort.iterations)
        alpha.copy_(torch.where(unknown, solved.clamp_(0, 1), alpha))
        return
    inside = image.new_ones(1, 1, 1, 1).expand(len(image), 1, *image.shape[-2:])
    margin = matting_laplacian.MARGIN
    coefficients = blocks.in_chunks(
        lambda part: matting_laplacian.stencil(part.gather(image, margin), part.gather(inside, margin), epsilon)
    )
    if isinstance(blocks, WholeImages):  # on an accelerator, starting kernels takes most of the time
        system, multiply = matting_laplacian.neighbourhoods(coefficients), matting_laplacian.gathered_product
    else:
        system, multiply = coefficients, matting_laplacian.product
    free = blocks.gather(unknown, REACH)
    start = blocks.gather(alpha, REACH)
    is_free = free[..., REACH:-REACH, REACH:-REACH].to(alpha.dtype)

    def restricted(x: Tensor) -> Tensor:
        """L x at the unknown pixels and 0 at the known ones; x has a margin."""
        return multiply(system, x).mul_(is_free)

    residual = restricted(start).neg_()
    right_hand_side = restricted(start.masked_fill_(free, 0))  # the negative contribution of the known pixels
    goal = effort.tolerance**2 * blocks.dot(right_hand_side, right_hand_side)
    del free, start, right_hand_side
    correction = conjugate_gradients(
        lambda x: restricted(blocks.with_margin(x, REACH)),
        Preconditioner(blocks, blocks.gather(image), blocks.gather(inside), is_free, coefficients),
        residual,
        blocks.dot,
        effort.iterations,
        goal,
        effort.check_every,
    )
    blocks.scatter(correction.add_(blocks.gather(alpha)).clamp_(0, 1), alpha)
