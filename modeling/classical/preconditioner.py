"""Preconditioner for the matting Laplacian: corrections from coarser scales that follow the edges of the image.

Conjugate gradients are slowest for wide changes of alpha with almost no cost: those that are linear in the colours of
every window. Interpolation by position only, as in textbook multigrid, hardly represents them. Here a correction of a
coarse image is enlarged by its local linear models, as alpha itself is:

    P x = s . up(G box(s x)),   s = (I - 1/2, 1),

with G, symmetric, the regression from window sums of (I x, x) to slopes and offset, and `up` a repetition over 2 x 2
cells. The preconditioner adds the inverse of the diagonal and all scales, D^-1 + P (w + P (w + ...) P') P': an
additive multigrid without coarse matrices. P' and P are a few sums per scale, with a quarter of the pixels at each next
scale.
"""

import torch
from torch import Tensor

from modeling.classical.blocks import Blocks
from modeling.classical.local_linear import inverse, window_moments
from modeling.classical.matting_laplacian import diagonal_of
from modeling.classical.pooling import apply_matrix, cell_sum, channel_dot, spread_dot, weighted_cell_sum, window_sum

SCALES = 4  # number of corrections; 2 ** SCALES divides the sides of a block
RIDGE = 1e-4  # added to the covariance of the colours, as a penalty for slopes
WEIGHT = 0.2  # inverse of a typical diagonal entry of the matting Laplacian: 9 windows of 1 - 4 / 9


class Preconditioner:
    """Preconditioner for one system.

    Args:
        image: (N, 3, h, w) colours of the blocks in [0, 1].
        inside: (N, 1, h, w), 0 beyond the edges of the image.
        unknown: (N, 1, h, w), 1 at unknown pixels and 0 elsewhere.
        coefficients: coefficients of the matting Laplacian at these blocks.
    """

    def __init__(self, blocks: Blocks, image: Tensor, inside: Tensor, unknown: Tensor, coefficients: Tensor) -> None:
        self.blocks = blocks
        floor = 16 * torch.finfo(image.dtype).eps  # smaller diagonal entries are rounding errors
        self.inverse_diagonal = unknown / diagonal_of(coefficients).clamp_min_(floor)
        self.carriers = [_carrier(image, unknown)]  # s at each scale, 0 at known pixels
        self.regressions = []
        for _ in range(SCALES):
            area = cell_sum(inside)
            image = cell_sum(image * inside) / area.clamp_min(1)
            unknown, inside = (cell_sum(unknown) > 0).to(image.dtype), (area > 0).to(image.dtype)
            self.carriers.append(_carrier(image, unknown))
            self.regressions.append(self._regression(image, inside))

    def __call__(self, residual: Tensor) -> Tensor:
        return self._correction(residual, 0).addcmul_(self.inverse_diagonal, residual)

    def _correction(self, residual: Tensor, scale: int) -> Tensor:
        """P (w + P (...) P') P' residual, for the given scale and all coarser ones."""
        fine, coarse, regression = self.carriers[scale], self.carriers[scale + 1], self.regressions[scale]
        models = apply_matrix(regression, weighted_cell_sum(fine, residual))
        coarse_residual = channel_dot(coarse, self._box(models))
        x = WEIGHT * coarse_residual
        if scale + 1 < SCALES:
            x += self._correction(coarse_residual, scale + 1)
        return spread_dot(fine, apply_matrix(regression, self._box(coarse * x)))

    def _box(self, x: Tensor) -> Tensor:
        return window_sum(self.blocks.with_margin(x, 1))

    def _regression(self, image: Tensor, inside: Tensor) -> Tensor:
        """G (N, 4, 4, h, w), symmetric: from window sums of (I x, x) to the model of x in the window."""
        area, mean, covariance = window_moments(image, inside, self._box)
        slopes = inverse(covariance, RIDGE)
        towards = apply_matrix(slopes, mean)
        matrix = mean.new_empty(len(mean), 4, 4, *mean.shape[2:])
        matrix[:, :3, :3] = slopes
        matrix[:, :3, 3] = matrix[:, 3, :3] = -towards
        matrix[:, 3, 3] = 1 + (mean * towards).sum(dim=1)
        return matrix / area[:, None]


def _carrier(image: Tensor, weight: Tensor) -> Tensor:
    return torch.cat([(image - 0.5) * weight, weight], dim=1)
