"""2 x 2 max pooling that remembers where each maximum was, and the unpooling that puts values back there.

The place of a maximum is kept as its number within the window, 0 to 3 in row order: an eighth of the memory of flat
indices, and unpooling becomes a comparison, which `torch.use_deterministic_algorithms` allows where
`torch.nn.functional.max_unpool2d` raises.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Halve (B, C, H, W), H and W even.

    Returns:
        the maxima (B, C, H / 2, W / 2), and their places in the windows, uint8 of 0 to 3 in row order. Of equal values
        the first counts.
    """
    maxima, flat = F.max_pool2d(x, 2, return_indices=True)  # flat = row * W + column
    with torch.no_grad():
        places = (flat & 1).to(torch.uint8)  # W is even: the column's last bit
        places += flat.div(x.shape[-1], rounding_mode="floor").bitwise_and_(1).to(torch.uint8) * 2
    return maxima, places


def max_unpool(x: Tensor, places: Tensor) -> Tensor:
    """Double (B, C, h, w): each value at its place (B, C, h, w) in a window of 2 x 2, zeros beside it.

    Example:
        >>> maxima, places = max_pool(x)
        >>> max_unpool(maxima, places)  # x, with zeros in place of what was no maximum
    """
    batch, chans, height, width = x.shape
    numbers = torch.arange(4, dtype=torch.uint8, device=x.device).view(2, 1, 2)  # row, -, column of a window
    windows = torch.where(places[..., None, :, None] == numbers, x[..., None, :, None], 0)  # (B, C, h, 2, w, 2)
    return windows.view(batch, chans, 2 * height, 2 * width)
