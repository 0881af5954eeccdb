"""2 x 2 max pooling that records the position of each maximum, and the unpooling that uses these positions.

The position of a maximum is its number within the window, 0 to 3 in row order. This takes an eighth of the memory of
flat indices, and unpooling is a comparison, which is deterministic. `torch.nn.functional.max_unpool2d` raises under
`torch.use_deterministic_algorithms`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Halve the size of (B, C, H, W), H and W even.

    Returns:
        The maxima (B, C, H / 2, W / 2), and their positions in the windows, uint8 of 0 to 3 in row order. The first of
        equal values counts.
    """
    maxima, flat = F.max_pool2d(x, 2, return_indices=True)  # flat = row * W + column
    with torch.no_grad():
        places = (flat & 1).to(torch.uint8)  # W is even: the column's last bit
        places += flat.div(x.shape[-1], rounding_mode="floor").bitwise_and_(1).to(torch.uint8) * 2
    return maxima, places


def max_unpool(x: Tensor, places: Tensor) -> Tensor:
    """Double the size of (B, C, h, w): each value at its position (B, C, h, w) in a 2 x 2 window, with zeros elsewhere.

    Example:
        >>> maxima, places = max_pool(torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]]))
        >>> max_unpool(maxima, places)
        tensor([[[[0., 0.],
                  [4., 0.]]]])
    """
    batch, chans, height, width = x.shape
    numbers = torch.arange(4, dtype=torch.uint8, device=x.device).view(2, 1, 2)  # row, -, column of a window
    windows = torch.where(places[..., None, :, None] == numbers, x[..., None, :, None], 0)  # (B, C, h, 2, w, 2)
    return windows.view(batch, chans, 2 * height, 2 * width)
