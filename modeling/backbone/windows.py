"""Attention in windows of the patch grid, with prefix tokens (class and registers).

If the window size does not divide the grid, windows at the right and bottom edges are smaller. This is equivalent to
padding to full windows and masking the padding in the softmax, but it needs no mask, which would disable the fused
kernels, and no wasted work. With `zero_padding` the padding takes part as keys, but its queries are not computed.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# queries, keys and values (B * windows, heads, tokens, head_dim), then the windows of queries and of keys in patches
Attend = Callable[[Tensor, Tensor, Tensor, tuple[int, int], tuple[int, int]], Tensor]


def windowed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grid: tuple[int, int],
    window_size: int,
    prefix_update: str,
    *,
    zero_padding: bool = False,
    attend: Attend | None = None,
) -> Tensor:
    """Attend patch tokens to their own window and to the prefix tokens.

    Args:
        q, k, v: (B, heads, P + HW, head_dim), P prefix tokens first, then the patches in row-major order.
        grid: H and W in patches.
        window_size: side of a window in patches.
        prefix_update: update rule of prefix tokens, which belong to no window. "global": they attend to every token, as
            in a global block, at a cost linear in HW. "mean": each window updates its own copy, and the copies are
            averaged.
        zero_padding: whether keys and values of zero fill the windows of the right and bottom edges.
        attend: attention within windows, called for all windows of one size; None for plain attention.

    Returns:
        (B, heads, P + HW, head_dim). On a grid of one window both updates equal plain attention.
    """
    num_prefix = q.shape[2] - grid[0] * grid[1]
    out = torch.empty_like(q)
    out_map = out[:, :, num_prefix:].unflatten(2, grid)  # (B, heads, H, W, head_dim), a view of out
    prefixes = [t[:, :, :num_prefix] for t in (q, k, v)]
    maps = [t[:, :, num_prefix:].unflatten(2, grid) for t in (q, k, v)]
    if zero_padding:
        maps[1:] = [_padded_to_windows(t, window_size) for t in maps[1:]]
    own_prefixes: list[Tensor] = []
    for rows, columns, window in _window_regions(grid, window_size):
        key_window = (window_size, window_size) if zero_padding else window
        key_region = _keys_of(rows, window[0], key_window[0]), _keys_of(columns, window[1], key_window[1])
        parts = [to_windows(maps[0][:, :, rows, columns], window)]
        parts += [to_windows(t[:, :, key_region[0], key_region[1]], key_window) for t in maps[1:]]
        if num_prefix:
            parts = _with_prefixes(parts, prefixes, with_query=prefix_update == "mean")
        # (B * windows, heads, [P +] window, head_dim)
        # Not "if attend": torch 2.11 cannot compile the truth value of a bound method.
        attended = attend(*parts, window, key_window) if attend is not None else F.scaled_dot_product_attention(*parts)
        if num_prefix and prefix_update == "mean":
            own_prefixes.append(attended[:, :, :num_prefix].unflatten(0, (len(q), -1)))
            attended = attended[:, :, num_prefix:]
        from_windows(attended, out_map[:, :, rows, columns], window)
    if own_prefixes:
        out[:, :, :num_prefix] = torch.cat(own_prefixes, dim=1).mean(dim=1)
    elif num_prefix:
        out[:, :, :num_prefix] = F.scaled_dot_product_attention(prefixes[0], k, v)
    return out


def _with_prefixes(windows: list[Tensor], prefixes: list[Tensor], with_query: bool) -> list[Tensor]:
    """Put the prefix tokens of each image before those of its windows, for keys, values and, optionally, queries."""
    return [
        torch.cat([repeat_prefix(prefix, len(part)), part], dim=2) if with_query or i > 0 else part
        for i, (prefix, part) in enumerate(zip(prefixes, windows, strict=True))
    ]


def _padded_to_windows(token_map: Tensor, size: int) -> Tensor:
    """Zero-pad the bottom and right of (B, heads, H, W, D) to whole windows."""
    height, width = token_map.shape[2:4]
    padding = (0, 0, 0, -width % size, 0, -height % size)
    return F.pad(token_map, padding) if any(padding) else token_map


def _keys_of(span: slice, window: int, key_window: int) -> slice:
    """Rows (or columns) of keys that the windows of `span` attend to."""
    return slice(span.start, span.start + (span.stop - span.start) // window * key_window)


def _window_regions(grid: tuple[int, int], size: int) -> Iterator[tuple[slice, slice, tuple[int, int]]]:
    """Yield up to four regions of equal windows: the complete ones, then those at the right, the bottom, the corner."""
    for rows, window_height in _spans(grid[0], size):
        for columns, window_width in _spans(grid[1], size):
            yield rows, columns, (window_height, window_width)


def _spans(length: int, size: int) -> list[tuple[slice, int]]:
    whole = length - length % size
    spans = [(slice(0, whole), size)] if whole else []
    return spans + ([(slice(whole, length), length - whole)] if whole < length else [])


def to_windows(region: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, heads, H, W, D) -> (B * windows, heads, window_height * window_width, D)."""
    batch, heads, height, width, dim = region.shape
    rows, columns = height // window[0], width // window[1]
    tiles = region.reshape(batch, heads, rows, window[0], columns, window[1], dim)
    return tiles.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch * rows * columns, heads, window[0] * window[1], dim)


def from_windows(windows: Tensor, region: Tensor, window: tuple[int, int]) -> None:
    """Write (B * windows, heads, tokens, D) into the (B, heads, H, W, D) view `region`."""
    batch, heads, height, width, dim = region.shape
    rows, columns = height // window[0], width // window[1]
    tiles = windows.reshape(batch, rows, columns, heads, window[0], window[1], dim)
    region.copy_(tiles.permute(0, 3, 1, 4, 2, 5, 6).reshape(region.shape))


def repeat_prefix(prefix: Tensor, num_windows: int) -> Tensor:
    """(B, heads, P, D) -> (B * windows, heads, P, D), one copy for each window of the same image."""
    return prefix.repeat_interleave(num_windows // len(prefix), dim=0)
