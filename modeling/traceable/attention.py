"""Attention whose shapes all follow from the input's by tensor operations, with the weights of `Attention`.

`Attention` cuts a grid into up to four regions of equal windows, in Python, and passes each to fused kernels. This
cannot be traced. Here the grid is padded to whole windows, and the padding is masked out of the softmax. The result is
the same. docs/backbone.md explains why `Attention` avoids the mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone.blocks import Attention
from runtime.errors import InputError

MASKED = -1e4  # added to a logit: zero weight after the softmax; in float16, -inf would make NaN of 0 * inf


class TraceableAttention(nn.Module):
    """Windowed or global attention of an `Attention` in eval mode.

    Args:
        attention: module whose weights and settings are used.
        num_prefix: number of tokens before the patches.
    """

    def __init__(self, attention: Attention, num_prefix: int) -> None:
        super().__init__()
        if attention.window_size and attention.rel_pos_h is not None and not attention.pad_windows:
            raise InputError(
                "relative positions in smaller windows at the border cannot be exported; "
                "set model.backbone.window_padding=zeros if that is what the checkpoint was trained with"
            )
        self.attention = attention
        self.num_prefix = num_prefix
        self.head_dim = attention.qkv.in_features // attention.num_heads

    def forward(self, tokens: Tensor, height: int, width: int, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, P + HW, dim) -> the same; `rotation` is a result of `RotaryPositions`."""
        joint = self._heads(tokens)
        if rotation is not None:
            joint = torch.cat([self._rotate(joint[:2], *rotation), joint[2:]])
        attend = self._windowed if self.attention.window_size else self._global
        out = attend(joint, height, width).transpose(1, 2).flatten(2)  # (B, P + HW, dim)
        if self.attention.qkv.bias is not None:
            out = out + self.attention.qkv.bias[-out.shape[-1] :]
        return self.attention.proj(out)

    def _heads(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values, (3, B, heads, P + HW, head_dim), with the bias of queries only, see Attention."""
        qkv = self.attention.qkv
        joint = F.linear(tokens, qkv.weight)
        if qkv.bias is not None:
            dim = qkv.in_features
            joint = joint + torch.cat([qkv.bias[:dim], torch.zeros_like(qkv.bias[dim:])])
        return joint.unflatten(-1, (3, self.attention.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)

    def _rotate(self, vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = vectors[..., self.num_prefix :, :].chunk(2, dim=-1)
        rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return torch.cat([vectors[..., : self.num_prefix, :], rotated], dim=-2) if self.num_prefix else rotated

    def _global(self, joint: Tensor, height: int, width: int) -> Tensor:
        """Global attention head by head, because the N x N weights of a head limit the size of an image."""
        tables = self._tables(height, width)
        heads = [_attend(*head, _relative_bias(head[0], tables, height, width)) for head in joint.split(1, dim=2)]
        return torch.cat(heads, dim=1)

    def _windowed(self, joint: Tensor, height: int, width: int) -> Tensor:
        size, prefix = self.attention.window_size, self.num_prefix
        down, across = (height + size - 1) // size, (width + size - 1) // size  # windows along each axis
        windows = self._to_windows(joint[..., prefix:, :], height, width, down, across)
        bias = _relative_bias(windows[0], self._tables(size, size), size, size)
        if not self.attention.pad_windows:
            bias = _padding_mask(height, width, down, across, size)  # (windows, 1, 1, size * size)
            bias = F.pad(bias, (prefix, 0)) if prefix else bias
        if not prefix:
            return self._from_windows(_attend(*windows, bias), height, width, down, across)
        prefixes = joint[..., :prefix, :]  # (3, B, heads, P, head_dim)
        repeated = prefixes[:, :, None].expand(-1, -1, down * across, -1, -1, -1)
        q, k, v = torch.cat([repeated, windows], dim=-2)  # (B, windows, heads, P + size * size, head_dim)
        if self.attention.prefix_update == "mean":
            attended = _attend(q, k, v, bias)
            updated = attended[..., :prefix, :].mean(dim=1)
            attended = attended[..., prefix:, :]
        else:
            attended = _attend(windows[0], k, v, bias)
            updated = _attend(prefixes[0], joint[1], joint[2], None)
        return torch.cat([updated, self._from_windows(attended, height, width, down, across)], dim=2)

    def _tables(self, height: int, width: int) -> tuple[Tensor, Tensor] | None:
        """Relative positions for a grid, (2 H - 1, head_dim) and (2 W - 1, head_dim)."""
        if self.attention.rel_pos_h is None:
            return None
        pairs = ((self.attention.rel_pos_h, height), (self.attention.rel_pos_w, width))
        return tuple(_resized(table, 2 * length - 1) for table, length in pairs)

    # Every size below is given, because a traced graph would compute a -1 by rounding divisions of the others.

    def _to_windows(self, joint: Tensor, height: int, width: int, down: int, across: int) -> Tensor:
        """(3, B, heads, HW, head_dim) -> (3, B, windows, heads, size * size, head_dim), with zero padding."""
        size, batch, heads, dim = self.attention.window_size, *joint.shape[1:3], self.head_dim
        token_map = joint.reshape(3 * batch, heads, height, width, dim)
        token_map = F.pad(token_map, (0, 0, 0, across * size - width, 0, down * size - height))
        tiles = token_map.reshape(3, batch, heads, down, size, across, size, dim).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return tiles.reshape(3, batch, down * across, heads, size * size, dim)

    def _from_windows(self, windows: Tensor, height: int, width: int, down: int, across: int) -> Tensor:
        """(B, windows, heads, size * size, head_dim) -> (B, heads, HW, head_dim)."""
        size, batch, heads, dim = self.attention.window_size, windows.shape[0], windows.shape[2], self.head_dim
        tiles = windows.reshape(batch, down, across, heads, size, size, dim).permute(0, 3, 1, 4, 2, 5, 6)
        token_map = tiles.reshape(batch, heads, down * size, across * size, dim)[:, :, :height, :width]
        return token_map.reshape(batch, heads, height * width, dim)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (logits if bias is None else logits + bias).softmax(dim=-1) @ v


def _padding_mask(height: int, width: int, down: int, across: int, size: int) -> Tensor:
    """Logits to add, (windows, 1, 1, size * size): 0 for patches of the grid, `MASKED` for padding."""
    rows, columns = torch.arange(down * size) < height, torch.arange(across * size) < width
    inside = rows.view(down, 1, size, 1) & columns.view(1, across, 1, size)
    return torch.where(inside, 0.0, MASKED).reshape(down * across, 1, 1, size * size)


def _relative_bias(q: Tensor, tables: tuple[Tensor, Tensor] | None, height: int, width: int) -> Tensor | None:
    """Decomposed relative positions: queries (..., H * W, head_dim) -> (..., H * W, H * W) to add to the logits."""
    if tables is None:
        return None
    query_map = q.unflatten(-2, (height, width))  # (..., H, W, head_dim)
    by_row, by_column = (table[_distances(length)] for table, length in zip(tables, (height, width), strict=True))
    vertical = query_map @ by_row.transpose(-2, -1)  # (..., H, W, H): each row of queries has its own matrix
    horizontal = query_map.transpose(-3, -2) @ by_column.transpose(-2, -1)  # (..., W, H, W)
    bias = vertical[..., :, None] + horizontal.transpose(-3, -2)[..., None, :]  # (..., H, W, H, W)
    return bias.flatten(-2).flatten(-3, -2)


def _distances(length: int) -> Tensor:
    """(length, length): row of the table for a query and a key along one axis."""
    places = torch.arange(length)
    return places[:, None] - places + length - 1


def _resized(table: Tensor, length: int) -> Tensor:
    """Interpolate (L, head_dim) linearly to (length, head_dim); unchanged if L is `length`."""
    # It is resized as an image of head_dim rows, because runtimes support Resize for images.
    picture = table.T[None, None]
    return F.interpolate(picture, size=(table.shape[1], length), mode="bilinear", align_corners=False)[0, 0].T
