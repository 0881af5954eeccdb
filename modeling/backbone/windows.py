"""Attention inside windows of the patch grid, with prefix tokens (CLS and registers) taking part.

A grid that the window size does not divide has smaller windows along its right and bottom edges. That is the same
as padding to full windows and masking the padding out of the softmax, without the mask, which would keep the fused
kernels from running, and without the wasted work.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def windowed_attention(
    q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], window_size: int, prefix_update: str
) -> Tensor:
    """Attend patch tokens to their own window and to the prefix tokens.

    Args:
        q, k, v: (B, heads, P + HW, head_dim), P prefix tokens first, then the patches in row-major order.
        grid: H and W in patches.
        window_size: side of a window in patches.
        prefix_update: how prefix tokens, which lie in no window, are updated. "global": they attend to every
            token, as in a global block, at a cost linear in HW. "mean": each window updates its own copy, and the
            copies are averaged.

    Returns:
        (B, heads, P + HW, head_dim). On a grid of one window both updates equal plain attention.
    """
    height, width = grid
    num_prefix = q.shape[2] - height * width
    out = torch.empty_like(q)
    out_map = out[:, :, num_prefix:].unflatten(2, grid)  # (B, heads, H, W, head_dim), a view of out
    prefix_copies: list[Tensor] = []
    for rows, columns, window in _window_regions(grid, window_size):
        parts = [_to_windows(t[:, :, num_prefix:].unflatten(2, grid)[:, :, rows, columns], window) for t in (q, k, v)]
        if num_prefix:
            copies = [_repeat_prefix(t[:, :, :num_prefix], len(parts[0])) for t in (q, k, v)]
            with_own_query = prefix_update == "mean"
            parts = [
                torch.cat([copy, part], dim=2) if with_own_query or i > 0 else part
                for i, (copy, part) in enumerate(zip(copies, parts, strict=True))
            ]
        attended = F.scaled_dot_product_attention(*parts)  # (B * windows, heads, [P +] window, head_dim)
        if num_prefix and prefix_update == "mean":
            prefix_copies.append(attended[:, :, :num_prefix].unflatten(0, (len(q), -1)))
            attended = attended[:, :, num_prefix:]
        _from_windows(attended, out_map[:, :, rows, columns], window)
    if num_prefix and prefix_update == "mean":
        out[:, :, :num_prefix] = torch.cat(prefix_copies, dim=1).mean(dim=1)
    elif num_prefix:
        out[:, :, :num_prefix] = F.scaled_dot_product_attention(q[:, :, :num_prefix], k, v)
    return out


def _window_regions(grid: tuple[int, int], size: int) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Yield up to four regions of equal windows: the whole ones, then what is left right, below and in the corner."""
    for rows, window_height in _spans(grid[0], size):
        for columns, window_width in _spans(grid[1], size):
            yield rows, columns, (window_height, window_width)


def _spans(length: int, size: int) -> list[tuple[slice, int]]:
    whole = length - length % size
    spans = [(slice(0, whole), size)] if whole else []
    return spans + ([(slice(whole, length), length - whole)] if whole < length else [])


def _to_windows(region: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, heads, H, W, D) -> (B * windows, heads, window_height * window_width, D)."""
    batch, heads, height, width, dim = region.shape
    rows, columns = height // window[0], width // window[1]
    tiles = region.reshape(batch, heads, rows, window[0], columns, window[1], dim)
    return tiles.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch * rows * columns, heads, window[0] * window[1], dim)


def _from_windows(windows: Tensor, region: Tensor, window: tuple[int, int]) -> None:
    """Write (B * windows, heads, tokens, D) into the (B, heads, H, W, D) view `region`."""
    batch, heads, height, width, dim = region.shape
    rows, columns = height // window[0], width // window[1]
    tiles = windows.reshape(batch, rows, columns, heads, window[0], window[1], dim)
    region.copy_(tiles.permute(0, 3, 1, 4, 2, 5, 6).reshape(region.shape))


def _repeat_prefix(prefix: Tensor, num_windows: int) -> Tensor:
    """(B, heads, P, D) -> (B * windows, heads, P, D), one copy for each window of the same image."""
    return prefix.repeat_interleave(num_windows // len(prefix), dim=0)
