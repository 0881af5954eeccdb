"""The ViT in traceable operations; it shares the weights of the original."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.backbone import ViT
from modeling.backbone.blocks import Block
from modeling.traceable.attention import TraceableAttention
from runtime.errors import InputError


class TraceableBlock(nn.Module):
    """A block of the ViT in eval mode."""

    def __init__(self, block: Block, num_prefix: int) -> None:
        super().__init__()
        self.block = block
        self.attention = TraceableAttention(block.attn, num_prefix)
        self.num_prefix = num_prefix

    def forward(self, x: Tensor, height: int, width: int, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, P + HW, dim) -> the same."""
        block = self.block
        x = x + block.ls1(self.attention(block.norm1(x), height, width, rotation))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        if block.residual is None:
            return x
        patches = x[:, self.num_prefix :].unflatten(1, (height, width)).permute(0, 3, 1, 2)
        patches = block.residual(patches).permute(0, 2, 3, 1).flatten(1, 2)
        return torch.cat([x[:, : self.num_prefix], patches], dim=1) if self.num_prefix else patches


class TraceableViT(nn.Module):
    """Features of a ViT, (B, in_chans, H, W) -> (B, embed_dim, H / p, W / p), for sides that the patch size p divides.

    Args:
        vit: network whose weights are used, as in eval mode.
    """

    def __init__(self, vit: ViT) -> None:
        super().__init__()
        self.vit = vit
        self.blocks = nn.ModuleList(TraceableBlock(block, vit.num_prefix_tokens) for block in vit.blocks)

    def forward(self, x: Tensor) -> Tensor:
        vit = self.vit
        patch_map = vit.patch_embed.proj(x)  # (B, dim, H/p, W/p)
        height, width = patch_map.shape[-2:]
        tokens = self._with_prefix(patch_map.flatten(2).transpose(1, 2), height, width)
        image_rotation = self._rotation(height, width, None)
        window_rotation = image_rotation
        if vit.rope_in_windows == "window":
            window_rotation = self._rotation(height, width, vit.window_size)
        merged = 0
        for index, block in enumerate(self.blocks):
            rotation = window_rotation if index in vit.window_block_indexes else image_rotation
            tokens = block(tokens, height, width, rotation)
            if str(index) in vit.merge:
                merged = merged + vit.merge[str(index)](tokens[:, vit.num_prefix_tokens :])
        patches = vit.norm(tokens)[:, vit.num_prefix_tokens :]
        if vit.merge:
            patches = patches + merged
        return patches.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def _with_prefix(self, patches: Tensor, height: int, width: int) -> Tensor:
        vit = self.vit
        cls_token = vit.cls_token
        if vit.pos_embed is not None:
            patches = patches + self._absolute_positions(height, width)
            cls_token = None if cls_token is None else cls_token + vit.pos_embed[:, :1]
        prefix = [t.expand(patches.shape[0], -1, -1) for t in (cls_token, vit.storage_tokens) if t is not None]
        return torch.cat([*prefix, patches], dim=1) if prefix else patches

    def _absolute_positions(self, height: int, width: int) -> Tensor:
        """(1, HW, dim), interpolated for every size; at the size of the table the result is the table."""
        if self.vit.abs_pos_resize != "size":
            raise InputError(f"cannot export to ONNX: abs_pos_resize {self.vit.abs_pos_resize!r}, only 'size' can be")
        positions = self.vit.pos_embed[:, 1:]
        side = round(positions.shape[1] ** 0.5)
        square = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)

    def _rotation(self, height: int, width: int, restart: int | None) -> tuple[Tensor, Tensor] | None:
        return None if self.vit.rope_embed is None else self.vit.rope_embed((height, width), restart=restart)
