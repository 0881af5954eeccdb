"""3x3 convolutions of blocks of 4 x 4 pixels with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. A row of a block is a product of
polynomials, determined by its values at six points, of which one is infinity. A 6 x 6 patch is transformed to its
values at 36 points, the values at each point are multiplied by a matrix that mixes the channels, and the 36 products
are transformed to the block's 16 pixels. The method is exact, but the transforms lose about one digit of float32, so it
is not suitable for half precision.

Tensors have the layout (point or pixel, block, channels), so that each step is a few large matrix products.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

SIDE = 4  # side of a block in pixels
TAPS = 3
PATCH = SIDE + TAPS - 1  # pixels that a row of a block reads, and number of points
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # and infinity; small values with small inverses reduce rounding errors
_ONE = PATCH + 1  # number of the point (1, 1), whose products are added to all 16 pixels


def _toom_cook() -> tuple[Tensor, Tensor, Tensor]:
    """Transforms of the input (6, 6), weights (6, 3) and output (4, 6) of a row, float64."""
    points = torch.tensor(_POINTS, dtype=torch.float64)
    powers = torch.zeros(PATCH, PATCH, dtype=torch.float64)
    powers[:-1] = points[:, None] ** torch.arange(PATCH)
    weights, outputs = powers[:, :TAPS].clone(), powers[:, :SIDE].clone()
    weights[-1, -1] = outputs[-1, -1] = 1  # only the highest power counts at infinity
    inputs = torch.zeros(PATCH, PATCH, dtype=torch.float64)
    for row in range(PATCH):
        others = torch.cat([points[:row], points[row + 1 :]])
        polynomial = torch.ones(1, dtype=torch.float64)
        for root in others:  # times (x - root), the lowest power first
            zero = polynomial.new_zeros(1)
            polynomial = torch.cat([zero, polynomial]) - root * torch.cat([polynomial, zero])
        inputs[row, : len(polynomial)] = polynomial
        if row < len(points):
            weights[row] /= (points[row] - others).prod()
    return inputs, weights, outputs.T


_INPUTS, _WEIGHTS, _OUTPUTS = _toom_cook()


@cache
def _on(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Transforms of input and output."""
    return _INPUTS.to(device, dtype), _OUTPUTS.to(device, dtype)


def point_values(patches: Tensor) -> Tensor:
    """Values (36, n, C) of patches (36 * n, C), which are stored pixel by pixel."""
    matrix, _ = _on(patches.device, patches.dtype)
    values = torch.matmul(matrix, _along_rows(matrix, patches[None])[0])
    return values.view(PATCH**2, -1, patches.shape[1])


def point_weights(weight: Tensor, taps: Tensor) -> Tensor:
    """Matrices of the points for convolutions whose kernels are combinations of the taps of a weight.

    Args:
        weight: (out, in, k, k).
        taps: (phases, 3, k): along either axis, the weight of each of the k taps in each tap of a phase's kernel.

    Returns:
        (phases, 36, in, phases * out), with the phases of rows first and those of columns last.
    """
    kernels = _WEIGHTS.to(weight) @ taps.to(weight)  # (phases, 6, k)
    phases, outs, ins = len(taps), *weight.shape[:2]
    across = torch.einsum("qjl,ockl->kjcqo", kernels, weight).flatten(1)
    return (kernels.flatten(0, 1) @ across).view(phases, PATCH**2, ins, phases * outs)


class BlockConv:
    """A convolution, or four convolutions for the even and odd rows and columns (phases) of a map of twice the size."""

    def __init__(self, weights: Tensor, spans: Sequence[tuple[int, int]] | None = None) -> None:
        """Set up from `point_weights`, which are zero outside `spans` of points, one span for each phase of rows."""
        self._weights = weights
        self._spans = spans or [(0, PATCH**2)] * len(weights)

    @classmethod
    def of(cls, weight: Tensor) -> "BlockConv":
        """Convolution with `weight` (out, in, 3, 3)."""
        return cls(point_weights(weight, torch.eye(TAPS)[None]))

    def __call__(self, values: Tensor, bias: Tensor | None, out: Tensor, add: bool = False) -> None:
        """Write or add the pixels and a bias (out,) to `out`, from `values` (36, n, in).

        `out` is (phases * 16 * n * phases, out), in the order phase of rows, pixel, block, phase of columns.
        """
        phases, _, _, channels = self._weights.shape
        products = out.new_empty(phases, PATCH**2, values.shape[1], channels)
        for phase, (start, stop) in enumerate(self._spans):
            products[phase, :start] = products[phase, stop:] = 0
            torch.bmm(values[start:stop], self._weights[phase, start:stop], out=products[phase, start:stop])
        if bias is not None:
            products[:, _ONE] += bias.repeat(phases)
        _, matrix = _on(out.device, out.dtype)
        rows = _along_rows(matrix, products).flatten(0, 1)  # (phases * 4, 6, n * channels)
        out.view(len(rows), SIDE, -1).baddbmm_(matrix.expand(len(rows), -1, -1), rows, beta=float(add))


def _along_rows(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply `matrix` (r, 6) to the rows of squares: (phases, 36, ...) -> (phases, r, 6, ...), other axes flattened."""
    return torch.matmul(matrix, x.reshape(len(x), PATCH, -1)).view(len(x), len(matrix), PATCH, -1)
