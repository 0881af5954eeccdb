"""Local linear models of alpha in the colours, a . I + b, which enlarge a coarse solution to a finer image.

The matting Laplacian is the cost of the best such model in every window (Levin et al., 2008, equation 11). Enlarged by
its models, alpha of a coarse image therefore follows the edges of the finer one, as in the guided filter (He et al.,
2010). 0.5 is subtracted from colours to reduce cancellation.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from modeling.classical.pooling import apply_matrix, channel_dot, doubled, window_sum

RIDGE = 1e-4  # added to the covariance of the colours, as a penalty for slopes
MARGIN = 3  # coarse pixels around a block on which its fine alpha depends
PAIRS = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def carry_up(coarse_image: Tensor, coarse_alpha: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha of the fine image by the local linear models of the coarse image, and the misfit of these models.

    Args:
        coarse_image, coarse_alpha: (N, 3, h + 6, w + 6) and (N, 1, h + 6, w + 6), blocks with a margin of `MARGIN`.
        image: (N, 3, 2 h, 2 w).

    Returns:
        Alpha (N, 1, 2 h, 2 w), and the misfit in the same shape: the root mean square residual over coarse windows.
    """
    area, mean, covariance = window_moments(coarse_image, torch.ones_like(coarse_alpha), window_sum)
    sums = window_sum(torch.cat([coarse_alpha, coarse_alpha.square(), (coarse_image - 0.5) * coarse_alpha], dim=1))
    alpha_mean, alpha_square, product = (sums / area).split([1, 1, 3], dim=1)
    target = product - mean * alpha_mean
    slopes = apply_matrix(inverse(covariance, RIDGE), target)
    residual = (alpha_square - alpha_mean.square() - channel_dot(slopes, target)).clamp_min(0)
    models = torch.cat([slopes, alpha_mean - channel_dot(slopes, mean), residual], dim=1)
    models = doubled(window_sum(models) / 9)
    return channel_dot(models[:, :3], image - 0.5) + models[:, 3:4], models[:, 4:].clamp_min(0).sqrt()


def window_moments(image: Tensor, inside: Tensor, box: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Area (N, 1, h, w), mean colour less 0.5 (N, 3, h, w) and covariance (N, 3, 3, h, w) of windows.

    Args:
        inside: weight of each pixel, 0 or 1.
        box: function that sums over windows.
    """
    colour = (image - 0.5) * inside
    products = [colour[:, a : a + 1] * colour[:, b : b + 1] for a, b in PAIRS]
    sums = box(torch.cat([inside, colour, *products], dim=1))
    area = sums[:, :1].clamp_min(1)
    mean, products = (sums[:, 1:] / area).split([3, 6], dim=1)
    covariance = mean.new_empty(len(mean), 3, 3, *mean.shape[2:])
    for k, (a, b) in enumerate(PAIRS):
        covariance[:, a, b] = covariance[:, b, a] = products[:, k] - mean[:, a] * mean[:, b]
    return area, mean, covariance


def inverse(covariance: Tensor, ridge: float) -> Tensor:
    """(covariance + ridge)^-1 of (N, 3, 3, h, w), computed from cofactors."""
    a, d, f = (covariance[:, k, k].clamp_min(0) + ridge for k in range(3))
    b, e, g = covariance[:, 1, 0], covariance[:, 2, 0], covariance[:, 2, 1]
    cofactors = [d * f - g * g, e * g - b * f, b * g - d * e, a * f - e * e, b * e - a * g, a * d - b * b]
    determinant = a * cofactors[0] + b * cofactors[1] + e * cofactors[2]
    symmetric = torch.stack([cofactors[k] for k in (0, 1, 2, 1, 3, 4, 2, 4, 5)], dim=1)  # avoids copying an index list
    return (symmetric / determinant.clamp_min(ridge**3)[:, None]).unflatten(1, (3, 3))
