"""Partial evaluation of the last block: only the features of some patches, with the same values."""

import torch.nn.functional as F
from torch import Tensor

from modeling.backbone.blocks import Block

WORTHWHILE_SHARE = 0.9  # of patches; above this share, selecting patches costs more than it saves


def block_at(
    block: Block, x: Tensor, grid: tuple[int, int], rotation: tuple[Tensor, Tensor] | None, needed: Tensor
) -> Tensor:
    """Run a block so that its output is correct at the needed patches.

    Keys and values come from all tokens. Queries, projection and feed-forward run at the needed patches, and one patch
    further if the block ends in 3x3 convolutions. The images of a batch share one set of patches, the union. Windowed
    blocks are run completely.

    Args:
        x: (B, P + HW, dim) tokens before the block.
        needed: (B or 1, H, W) bool.

    Returns:
        (B, P + HW, dim); tokens that are not needed are unspecified but finite.
    """
    computed = needed.any(dim=0) if block.residual is None else _dilated(needed.any(dim=0))
    patches = computed.flatten().nonzero()[:, 0]
    if block.attn.window_size or len(patches) > WORTHWHILE_SHARE * grid[0] * grid[1]:
        return block(x, grid, rotation)
    if len(patches) == 0:
        return x
    places = x.shape[1] - grid[0] * grid[1] + patches
    tokens = x[:, places] + block.ls1(block.attn.at(block.norm1(x), grid, rotation, patches))
    tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    x = x.to(tokens.dtype).index_copy(1, places, tokens)  # the dtypes differ after the first block under autocast
    return x if block.residual is None else block.convolve(x, grid)


def _dilated(mask: Tensor) -> Tensor:
    """Grow a bool (H, W) mask by one patch in all eight directions."""
    return F.max_pool2d(mask[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
