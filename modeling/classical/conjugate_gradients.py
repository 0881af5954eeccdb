"""Preconditioned conjugate gradients for many images at once."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    residual: Tensor,
    dot: Callable[[Tensor, Tensor], Tensor],
    iterations: int,
    goal: Tensor,
    check_every: int | None = 10,
) -> Tensor:
    """Solution x of A x = residual, starting from zero.

    Args:
        multiply: function x -> A x, symmetric and positive.
        precondition: symmetric and positive approximation of A^-1.
        residual: right-hand side; overwritten with the final residual.
        dot: inner product, one number for each image, in a shape that broadcasts with x.
        iterations: largest number of iterations.
        goal: squared norm of the residual, in the shape of `dot`, at which an image is finished.
        check_every: iterations between checks whether all images have reached their goal. Each check waits for the
            device; None for no checks.
    """
    x = torch.zeros_like(residual)
    direction = precondition(residual)
    slope = dot(residual, direction)
    for done in range(1, iterations + 1):
        product = multiply(direction)
        curvature = dot(direction, product)
        going = (dot(residual, residual) > goal) & (curvature > 0)
        step = torch.where(going, slope / curvature, 0)
        x.addcmul_(step, direction)
        residual.addcmul_(-step, product)
        if check_every and done % check_every == 0 and not bool((dot(residual, residual) > goal).any()):
            break
        preconditioned = precondition(residual)
        previous, slope = slope, dot(residual, preconditioned)
        direction.mul_(torch.where(going, slope / previous, 0)).add_(preconditioned)
    return x
