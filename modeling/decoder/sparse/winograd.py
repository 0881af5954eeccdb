"""3x3 convolutions of blocks of 4 x 4 pixels with a quarter of the products: Winograd's F(4 x 4, 3 x 3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. A row of a block is a product of
polynomials, given by its values at six points, of which one is infinity. A 6 x 6 patch becomes its values at 36 points,
each point's values are multiplied by a matrix that mixes the channels, and the 36 products give the block's 16 pixels.
Nothing is approximated, but the transforms lose about one of float32's digits: half precision is not for them.

Tensors are laid out (point or pixel, block, channels), so that each step is a few large matrix products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SIDE = 4  # pixels of a block's side
TAPS = 3
PATCH = SIDE + TAPS - 1  # pixels that a row of a block reads, and points
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # and infinity; small, with small inverses, for the rounding
_ONE = PATCH + 1  # of the 36 points, that of (1, 1), which adds its products to all 16 pixels


def _toom_cook() -> tuple[Tensor, Tensor, Tensor]:
    """Transforms of a row's input (6, 6), weights (6, 3) and output (4, 6), float64."""
    points = torch.tensor(_POINTS, dtype=torch.float64)
    powers = torch.zeros(PATCH, PATCH, dtype=torch.float64)
    powers[:-1] = points[:, None] ** torch.arange(PATCH)
    weights, outputs = powers[:, :TAPS].clone(), powers[:, :SIDE].clone()
    weights[-1, -1] = outputs[-1, -1] = 1  # at infinity only the highest power counts
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


def point_values(patches: Tensor) -> Tensor:
    """Patches (36 * n, C), pixel after pixel, to their values (36, n, C)."""
    matrix = _INPUTS.to(patches)
    values = torch.matmul(matrix, _along_rows(matrix, patches[None])[0])
    return values.view(PATCH**2, -1, patches.shape[1])


def point_weights(weight: Tensor, taps: Tensor) -> Tensor:
    """Matrices of the points for convolutions whose kernels are made of a weight's taps: (phases^2, 36, in, out).

    Args:
        weight: (out, in, k, k).
        taps: (phases, 3, k): along either axis, how much of each of the k taps is in each tap of a phase's kernel.
    """
    kernels = _WEIGHTS.to(weight) @ taps.to(weight)  # (phases, 6, k)
    both = torch.einsum("pik,qjl->pqijkl", kernels, kernels).flatten(4).flatten(0, 3)
    mixed = both @ weight.permute(2, 3, 1, 0).reshape(both.shape[1], -1)
    return mixed.view(len(taps) ** 2, PATCH**2, weight.shape[1], weight.shape[0])


class BlockConv:
    """A convolution, or four for the even and odd rows and columns of a map of twice the size, called phases."""

    def __init__(self, weights: Sequence[Tensor], spans: Sequence[tuple[int, int]] | None = None) -> None:
        """Set up for several maps, whose channels are read together.

        Args:
            weights: of each map, from `point_weights`.
            spans: first and last but one of the points of each phase where `weights` are not zero; None for all.
        """
        self.weights = weights
        self._spans = spans or [(0, PATCH**2)] * len(weights[0])

    @classmethod
    def of(cls, weight: Tensor) -> "BlockConv":
        """The convolution of one map by `weight` (out, in, 3, 3)."""
        return cls([point_weights(weight, torch.eye(TAPS)[None])])

    def __call__(self, values: Sequence[Tensor], bias: Tensor | None, out: Tensor, add: bool = False) -> None:
        """Write, or add, the pixels and a bias (out,) to `out` (phases * 16 * n, out): phase, pixel, block.

        `values` (36, n, in) are those of each map.
        """
        phases, _, _, channels = self.weights[0].shape
        products = out.new_empty(phases, PATCH**2, values[0].shape[1], channels)
        for phase, (start, stop) in enumerate(self._spans):
            products[phase, :start] = products[phase, stop:] = 0
            total = products[phase, start:stop]
            torch.bmm(values[0][start:stop], self.weights[0][phase, start:stop], out=total)
            for value, weight in zip(values[1:], self.weights[1:], strict=True):
                total.baddbmm_(value[start:stop], weight[phase, start:stop])
        if bias is not None:
            products[:, _ONE] += bias
        matrix = _OUTPUTS.to(out)
        rows = _along_rows(matrix, products).flatten(0, 1)  # (phases * 4, 6, n * out)
        out.view(len(rows), SIDE, -1).baddbmm_(matrix.expand(len(rows), -1, -1), rows, beta=float(add))


def _along_rows(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply `matrix` (r, 6) to the rows of squares: (phases, 36, ...) -> (phases, r, 6, ...), the rest flattened."""
    return torch.matmul(matrix, x.reshape(len(x), PATCH, -1)).view(len(x), len(matrix), PATCH, -1)
