"""Closed-form matting of whole images in few, large operations, for accelerators.

On a GPU the time for a small image is the time for starting kernels. The matting Laplacian is therefore stored as all
25 entries of every row, so that its product with a vector is two operations. Conjugate gradients use the diagonal as
their only preconditioner: they need more iterations than with corrections from coarser scales (`Preconditioner`), but
each has a tenth of the kernels. Nothing waits for the device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.classical.matting_laplacian import REACH
from modeling.classical.pooling import image_dot

SIDE = 2 * REACH + 1  # side of the neighbourhood of pixels that share a window
SMALLEST = 1e-30  # added to a divisor that is zero only if nothing is left to solve


def solve_whole(image: Tensor, unknown: Tensor, start: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Alpha after `iterations` conjugate gradient iterations from `start`, with fixed known pixels.

    Args:
        image: (B, 3, H, W) colours in [0, 1], at least 3 x 3 pixels.
        unknown: (B, 1, H, W) bool.
        start: (B, 1, H, W).
        epsilon: regularisation of the window covariances.

    Returns:
        (B, 1, H, W), not clipped.
    """
    table = laplacian_table(image, epsilon)
    diagonal = table[:, REACH, REACH]
    floor = 16 * torch.finfo(image.dtype).eps  # smaller diagonal entries are rounding errors
    scale = unknown.to(image.dtype) * diagonal.clamp_min(floor).rsqrt()[:, None]
    differences = neighbours(start) - start[:, :, None]  # rows sum to 0, so differences avoid cancellation
    residual = -scale * (table * differences).sum(dim=(1, 2))[:, None]
    table = table * scale[:, None] * neighbours(scale)  # with unknowns x = scale y the diagonal is one
    return start + scale * _conjugate_gradients(table, residual, iterations)


def laplacian_table(image: Tensor, epsilon: float) -> Tensor:
    """Matting Laplacian (Levin et al., 2008, equation 12, see `matting_laplacian`) with all entries of every row.

    Returns:
        (B, 5, 5, H, W); [:, 2 + dy, 2 + dx, y, x] is the entry of the pixels (y, x) and (y + dy, x + dx).
    """
    batch, _, height, width = image.shape
    vectors = _window_vectors(image, epsilon)  # (B, 3, 3, 3, H - 2, W - 2): colour, row and column in the window
    table = image.new_zeros(batch, SIDE, SIDE, height, width)
    for y in range(3):
        for x in range(3):
            products = (vectors[:, :, y : y + 1, x : x + 1] * vectors).sum(dim=1)  # with all pixels of the window
            part = table[:, REACH - y : SIDE - y, REACH - x : SIDE - x, y : y + height - 2, x : x + width - 2]
            part.sub_(products + 1 / 9)
    table[:, REACH, REACH] = 0
    table[:, REACH, REACH] = -table.sum(dim=(1, 2))  # constants have no cost
    return table


def table_product(table: Tensor, x: Tensor) -> Tensor:
    """Product of the Laplacian with (B, 1, H, W), the same shape."""
    return (table * neighbours(x)).sum(dim=(1, 2))[:, None]


def neighbours(x: Tensor) -> Tensor:
    """The 5 x 5 neighbourhood of every pixel of (B, 1, H, W), zeros beyond the image: (B, 5, 5, H, W)."""
    height, width = x.shape[-2:]
    return F.pad(x, (REACH,) * 4)[:, 0].unfold(1, height, 1).unfold(2, width, 1)


def _window_vectors(image: Tensor, epsilon: float) -> Tensor:
    """Whitened colours v of each window's pixels: v_i . v_j = (I_i - mu)' S (I_j - mu) / 9."""
    height, width = image.shape[-2] - 2, image.shape[-1] - 2
    windows = image.unfold(2, height, 1).unfold(3, width, 1)  # (B, 3, 3, 3, H - 2, W - 2)
    precise = image.dtype if image.device.type == "mps" else torch.float64  # MPS has no float64
    colours = (windows - windows[:, :, 1:2, 1:2]).to(precise)  # differences of close colours
    colours = colours - colours.mean(dim=(2, 3), keepdim=True)
    moment = (colours[:, :, None] * colours[:, None]).sum(dim=(3, 4))[..., None, None, :, :]
    l00 = (moment[:, 0, 0] + epsilon).sqrt()
    l10, l20 = moment[:, 1, 0] / l00, moment[:, 2, 0] / l00
    l11 = (moment[:, 1, 1] + epsilon - l10 * l10).clamp_min(epsilon).sqrt()
    l21 = (moment[:, 2, 1] - l20 * l10) / l11
    l22 = (moment[:, 2, 2] + epsilon - l20 * l20 - l21 * l21).clamp_min(epsilon).sqrt()
    first = colours[:, 0] / l00
    second = (colours[:, 1] - l10 * first) / l11
    third = (colours[:, 2] - l20 * first - l21 * second) / l22
    return torch.stack([first, second, third], dim=1).to(image.dtype)


def _conjugate_gradients(table: Tensor, residual: Tensor, iterations: int) -> Tensor:
    """Solution y of `table` y = residual, starting from zero. An image with a residual of zero is unchanged."""
    y, direction = torch.zeros_like(residual), residual.clone()
    slope = image_dot(residual, residual)
    for _ in range(iterations):
        product = table_product(table, direction)
        step = slope / (image_dot(direction, product) + SMALLEST)
        y.addcmul_(step, direction)
        residual.addcmul_(step, product, value=-1)
        previous, slope = slope, image_dot(residual, residual)
        direction.mul_(slope / (previous + SMALLEST)).add_(residual)
    return y
