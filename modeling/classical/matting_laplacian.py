"""The matting Laplacian as a stencil: thirteen numbers per pixel instead of a sparse matrix.

Levin, Lischinski and Weiss, "A Closed-Form Solution to Natural Image Matting", 2008, equation 12. In every window k of
3 x 3 pixels alpha is assumed linear in the colours, and

    L_ij = sum over the windows k that hold i and j of  delta_ij - (1 + (I_i - mu_k)' S_k (I_j - mu_k)) / 9,
    S_k = (covariance_k + epsilon / 9)^-1.

Two pixels share a window only if they are at most two rows and two columns apart, and L is symmetric. The twelve
offsets of half a 5 x 5 neighbourhood therefore represent it. The usual box filters (He et al., 2010) compute the same
product from sums of I * x, which cancel: in float32 they lose all digits at PyMatting's epsilon of 1e-7. Here colours
are centred before they are multiplied, and a product with the stencil is as exact as its entries.
"""

import torch
from torch import Tensor

from modeling.classical.pooling import window_sum

OFFSETS = [(0, 1), (0, 2)] + [(dy, dx) for dy in (1, 2) for dx in range(-2, 3)]  # (rows, columns) from i to j
REACH = 2  # pixels beyond its block that a product with the stencil reads
MARGIN = 2 * REACH  # pixels of the image around a block on which its stencil depends
WINDOW = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def stencil(image: Tensor, inside: Tensor, epsilon: float) -> Tensor:
    """Coefficients of the matting Laplacian for blocks of pixels.

    Args:
        image: (N, 3, H + 8, W + 8) colours in [0, 1] of blocks of H x W pixels with a margin of `MARGIN` pixels.
        inside: (N, 1, H + 8, W + 8), 1 at pixels of the image and 0 beyond its edges.
        epsilon: regularisation of the window covariances.

    Returns:
        (N, 12, H + 2, W + 4), of the image's dtype. [:, o, y + 2, x + 2] is the entry L_ij for the block's pixel
        i = (y, x) and j = i + OFFSETS[o]. `product` needs the two rows above and the two columns on either side.
    """
    vectors, weight = _window_vectors(image, inside, epsilon)
    height, width = image.shape[-2] - 2 * MARGIN, image.shape[-1] - 2 * MARGIN
    coefficients = image.new_zeros(image.shape[0], len(OFFSETS), height + REACH, width + 2 * REACH)
    for index, (dy, dx) in enumerate(OFFSETS):
        for first, (y, x) in enumerate(WINDOW):
            if (y + dy, x + dx) not in WINDOW:
                continue
            second = WINDOW.index((y + dy, x + dx))
            # Pixel i is at (y, x) of the window around i - (y, x); windows start 3 pixels outside the block.
            rows = slice(1 - y, 1 - y + height + REACH)
            columns = slice(1 - x, 1 - x + width + 2 * REACH)
            shared = (vectors[first][..., rows, columns] * vectors[second][..., rows, columns]).sum(dim=1)
            coefficients[:, index].sub_(shared).sub_(weight[:, 0, rows, columns], alpha=1 / 9)
    return coefficients


def _window_vectors(image: Tensor, inside: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Whitened colours of the nine pixels of each window, and a mask of the windows inside the image.

    Returns:
        (9, N, 3, h, w) of vectors with v_i . v_j = (I_i - mu)' S (I_j - mu) / 9, and (N, 1, h, w) of 0 and 1. Windows
        that cross the edge of the image have zeros.
    """
    precise = image.dtype if image.device.type == "mps" else torch.float64  # MPS has no float64
    height, width = image.shape[-2] - 2, image.shape[-1] - 2
    shifted = [image[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in WINDOW]
    centre = shifted[WINDOW.index((0, 0))]
    colours = torch.stack([colour - centre for colour in shifted]).to(precise)  # differences of close colours are exact
    colours -= colours.mean(dim=0)
    weight = (window_sum(inside) > 8.5).to(image.dtype)
    return _whitened(colours, epsilon).to(image.dtype) * weight, weight


def _whitened(colours: Tensor, epsilon: float) -> Tensor:
    """Centred colours (9, N, 3, h, w), multiplied by the inverse Cholesky factor of 9 covariance + epsilon."""
    red, green, blue = colours.unbind(dim=2)

    def moment(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(dim=0)

    l00 = (moment(red, red) + epsilon).sqrt()
    l10, l20 = moment(green, red) / l00, moment(blue, red) / l00
    l11 = (moment(green, green) + epsilon - l10 * l10).clamp_min(epsilon).sqrt()
    l21 = (moment(blue, green) - l20 * l10) / l11
    l22 = (moment(blue, blue) + epsilon - l20 * l20 - l21 * l21).clamp_min(epsilon).sqrt()
    first = red / l00
    second = (green - l10 * first) / l11
    third = (blue - l20 * first - l21 * second) / l22
    return torch.stack([first, second, third], dim=2)


def diagonal_of(coefficients: Tensor) -> Tensor:
    """Diagonal of the Laplacian, (N, 1, H, W): minus the sum of the other entries, because constants have no cost."""
    height, width = coefficients.shape[-2] - REACH, coefficients.shape[-1] - 2 * REACH
    diagonal = coefficients.new_zeros(len(coefficients), 1, height, width)
    for index, (dy, dx) in enumerate(OFFSETS):
        for row, column in ((REACH, REACH), (REACH - dy, REACH - dx)):
            diagonal -= coefficients[:, index : index + 1, row : row + height, column : column + width]
    return diagonal


def product(coefficients: Tensor, x: Tensor) -> Tensor:
    """L x at the pixels of the blocks, (N, 1, H, W), for x (N, 1, H + 4, W + 4) with a margin of `REACH` pixels.

    It is computed as the sum over j of L_ij (x_j - x_i), which cancels little where x is smooth.
    """
    height, width = x.shape[-2] - 2 * REACH, x.shape[-1] - 2 * REACH
    y = x.new_zeros(len(x), 1, height, width)
    for index, (dy, dx) in enumerate(OFFSETS):
        # Pixels i that are in the block, or whose partner i + (dy, dx) is in the block.
        left, columns = max(dx, 0), width + abs(dx)
        rows, start = slice(REACH - dy, REACH + height), REACH - left
        here = x[..., rows, start : start + columns]
        partner = x[..., REACH : REACH + height + dy, start + dx : start + dx + columns]
        flow = (partner - here).mul_(coefficients[:, index : index + 1, rows, start : start + columns])
        y += flow[..., dy:, left : left + width]
        y -= flow[..., :height, left - dx : left - dx + width]
    return y


def neighbourhoods(coefficients: Tensor) -> Tensor:
    """Stencil with both halves of each neighbourhood, (N, 5, 5, H, W): L_ij for all j around i, and 0 for i itself."""
    height, width = coefficients.shape[-2] - REACH, coefficients.shape[-1] - 2 * REACH
    entries = coefficients.new_zeros(len(coefficients), 5, 5, height, width)
    for index, (dy, dx) in enumerate(OFFSETS):
        for sign, row, column in ((1, REACH, REACH), (-1, REACH - dy, REACH - dx)):
            entry = coefficients[:, index, row : row + height, column : column + width]
            entries[:, REACH + sign * dy, REACH + sign * dx] = entry
    return entries


def gathered_product(entries: Tensor, x: Tensor) -> Tensor:
    """Result of `product` from `neighbourhoods`, with three kernels instead of fifty and twice the memory."""
    windows = x[:, 0].unfold(1, 5, 1).unfold(2, 5, 1).permute(0, 3, 4, 1, 2)  # (N, 5, 5, H, W)
    return (windows - windows[:, REACH : REACH + 1, REACH : REACH + 1]).mul_(entries).sum(dim=(1, 2))[:, None]
