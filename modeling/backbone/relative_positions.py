"""Attention with decomposed relative positions, as in ViTDet and ViTMatte, in bounded memory.

A learned vector for every distance along each axis adds q . R_h[row distance] + q . R_w[column distance] to the
logits (Li et al., "MViTv2", 2022; Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection",
2022). The bias depends on the query, so heads and images cannot share it, and for N tokens it has N x N entries for
each head. It is built for one chunk of queries at a time by broadcasting two terms of N x H and N x W entries, and
passed to PyTorch's fused attention. docs/backbone.md has the measurements from which the chunk's size was chosen.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_BYTES = {"cpu": 64 * 2**20}  # bytes of bias at a time
# 16384 queries of a 2048 x 2048 image are 256 blocks of the kernel, enough for a hundred multiprocessors. An estimate.
ACCELERATOR_CHUNK_BYTES = 2**30
CHUNK_QUERIES = 768  # PyTorch's CPU kernel uses large blocks from here on, so chunks rather have fewer heads


def num_distances(length: int) -> int:
    """Number of rows of a table for an axis of `length` patches: distances from 1 - length to length - 1."""
    return 2 * length - 1


def resize_table(table: Tensor, length: int) -> Tensor:
    """Resize a table (L, head_dim) linearly for an axis of `length` patches: (2 * length - 1, head_dim)."""
    if len(table) == num_distances(length):
        return table
    return F.interpolate(table.T[None], size=num_distances(length), mode="linear")[0].T


def relative_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table_h: Tensor,
    table_w: Tensor,
    rows: Tensor,
    columns: Tensor,
    grid: tuple[int, int],
) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + relative positions) v. The position terms use unscaled queries.

    Args:
        q: (B, heads, n, head_dim), queries at any n positions of the grid.
        k, v: (B, heads, H * W, head_dim), the whole grid in row-major order.
        table_h, table_w: (L, head_dim) each, for any L. Row i is for a distance (query minus key) of i - (L - 1) / 2
            patches. Tables of another length than the grid needs are interpolated.
        rows, columns: (n,) integer positions of the queries.
        grid: H and W.

    Returns:
        (B, heads, n, head_dim).
    """
    table = torch.cat([resize_table(table_h, grid[0]), resize_table(table_w, grid[1])])
    chunks = list(_chunks(q, k.shape[2]))
    if len(chunks) == 1:
        return F.scaled_dot_product_attention(q, k, v, _bias(q, table, rows, columns, grid))
    out = torch.empty_like(q)
    buffer = None  # all chunks share one buffer, because allocating pages costs as much as filling them
    for images, heads, queries in chunks:
        part = q[images, heads, queries]
        bias = _bias(part, table, rows[queries], columns[queries], grid, buffer)
        if buffer is None and not torch.is_grad_enabled():
            buffer = bias.flatten()  # the first chunk is the largest
        out[images, heads, queries] = F.scaled_dot_product_attention(part, k[images, heads], v[images, heads], bias)
    return out


def _bias(
    q: Tensor, table: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int], buffer: Tensor | None = None
) -> Tensor:
    """Relative part of the logits, (B, heads, n, H * W), written to `buffer` if it is given.

    `table`: (2 H - 1 + 2 W - 1, head_dim), for the distances of rows and then of columns.
    """
    products = q @ table.T  # (B, heads, n, 2 H - 1 + 2 W - 1)
    row_index = _distance_index(rows, grid[0])  # (n, H)
    column_index = _distance_index(columns, grid[1]) + num_distances(grid[0])  # (n, W)
    vertical, horizontal = (  # (B, heads, n, H) and (B, heads, n, W)
        products.gather(-1, index.expand(*q.shape[:2], -1, -1)) for index in (row_index, column_index)
    )
    target = None
    if buffer is not None:
        shape = (*vertical.shape, horizontal.shape[-1])
        target = buffer[: math.prod(shape)].view(shape)
    return torch.add(vertical[..., :, None], horizontal[..., None, :], out=target).flatten(-2)


def _distance_index(places: Tensor, length: int) -> Tensor:
    """Row of the table for each query (n,) and each of `length` keys: (n, length)."""
    return places[:, None] - torch.arange(length, device=places.device) + length - 1


def _chunks(q: Tensor, num_keys: int) -> Iterator[tuple[slice, slice, slice]]:
    """Split (B, heads, n) into chunks whose bias fits the budget: whole images, else few heads, else few queries."""
    batch, heads, queries = q.shape[:3]
    budget = CHUNK_BYTES.get(q.device.type, ACCELERATOR_CHUNK_BYTES) // (num_keys * q.element_size())
    head_step = _even_step(heads, budget // min(queries, CHUNK_QUERIES))
    query_step = _even_step(queries, budget // head_step)
    image_step = max(budget // (head_step * query_step), 1) if (head_step, query_step) == (heads, queries) else 1
    for image in range(0, batch, image_step):
        for head in range(0, heads, head_step):
            for query in range(0, queries, query_step):
                yield (
                    slice(image, image + image_step),
                    slice(head, head + head_step),
                    slice(query, query + query_step),
                )


def _even_step(length: int, limit: int) -> int:
    """Step that splits `length` into the fewest parts of at most `limit` (at least 1), of nearly equal size."""
    pieces = -(-length // max(limit, 1))
    return -(-length // pieces)
