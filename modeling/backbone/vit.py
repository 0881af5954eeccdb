"""Vision transformer: exactly DINOv3 or DINOv2, or ViTMatte's hybrid of windows, global blocks and convolutions."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modeling.backbone.base import Encoder, init_linear_layers
from modeling.backbone.blocks import FFN_LAYERS, Attention, Block, MergeProjection, PatchEmbed
from modeling.backbone.partial_block import block_at
from modeling.backbone.rope import RotaryPositions
from runtime.errors import InputError, require_choice

NUM_REGISTERS = 4  # in every published DINOv3 ViT
DINOV3_NORM = partial(nn.LayerNorm, eps=1e-5)
POSITION_OFFSET = 0.1  # patches; facebookresearch/dinov2 adds it against rounding, in training too
Rotation = tuple[Tensor, Tensor]  # cos and sin


class ViT(Encoder):
    """Plain ViT with class and register tokens, rotary positions and LayerScale.

    With `window_block_indexes=()` and `residual_block_indexes=()` this is DINOv3's ViT (Siméoni et al., 2025). With
    `dinov2_arguments` (variants.py) it is DINOv2's (Oquab et al., 2023), with absolute instead of rotary positions.
    With both index lists it is the hybrid of ViTMatte (Yao et al., 2023) on the same weights: windowed and global
    blocks, and residual convolutions that start as identity. docs/backbone.md explains prefix tokens and rotary
    coordinates in windows, and the settings of the original ViTMatte's backbone. Parameter names are those of the
    official DINOv3 checkpoints, and those of ViTMatte for its additional parts.

    Args:
        in_chans: number of input channels: 3 for RGB, 4 or 6 with a trimap.
        patch_size: side of a patch in pixels.
        img_size: training crop in pixels, for which the tables of relative positions are made. It also sets the step of
            rotary coordinates if the step is fixed. The network takes images of any size.
        mlp_ratio: ratio of the hidden width of the feed-forward layer to `embed_dim`.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0.
        norm_layer: constructor of a norm from a width. DINOv3's LayerNorm has eps 1e-5, DINO's and MAE's 1e-6.
        window_size: side of an attention window in patches.
        window_block_indexes: blocks whose patch tokens attend within windows; the others are global.
        residual_block_indexes: blocks followed by a residual convolution block.
        use_act_checkpoint: whether blocks are recomputed in the backward pass to save memory.
        out_feature: name of the output, kept from ViTMatte's configs; only "last_feat" exists.
        num_register_tokens: number of learned tokens after the class token ("storage tokens" in the checkpoints).
        use_cls_token: whether there is a class token.
        ffn: "mlp" or "swiglu".
        layer_scale_init: initial value of LayerScale, None for no LayerScale. Loading overwrites it.
        rope_base: base of the rotary periods, None for no rotary positions.
        rope_rescale: random scale of rotary coordinates in training, see RotaryPositions.
        rope_coordinates: "image" stretches the coordinates -1 to 1 over any image, as DINOv3 does, so patches of a
            large image are closer together than in training. "step" keeps the distance of patches in the training crop
            `img_size`. Attention depends on differences of coordinates only, so a smaller image then has no new
            differences, and a larger one has new differences at long distances only. The step also applies to smaller
            sides, because a step for each axis would distort a long, narrow image.
        rope_in_windows: "image" gives a patch the same coordinates in every block. "window" restarts them in each
            window (manic-cui/DINOv3-ViTMatte), with a fixed step.
        window_padding: "masked" keeps padding out of the attention of incomplete windows. "zeros" includes zero
            tokens (ViTDet, ViTMatte, manic-cui/DINOv3-ViTMatte).
        window_prefix: update rule of prefix tokens in windowed blocks, "global" or "mean", see windowed_attention.
        use_abs_pos: whether a learned absolute position embedding is added (DINO, MAE).
        pretrain_img_size: image size in pixels of the absolute position embedding.
        abs_pos_resize: interpolation of the absolute embedding, always bicubic. "size" resizes to the grid (ViTDet,
            ViTMatte). "offset" samples at steps of side / (grid + 0.1), as DINOv2 without registers was trained and as
            facebookresearch/dinov2 runs it. "antialias" resizes to the grid with antialiasing, as DINOv2 with
            registers. The rules differ by 2 to 26 % of DINOv2's features.
        use_rel_pos: whether decomposed relative positions are added in every block's attention, as in ViTDet and
            ViTMatte. This excludes prefix tokens, which have no position in the grid, and rotary positions.
        final_norm: whether all tokens are normalised after the last block (as in DINOv3, not in ViTMatte's original
            ViT).
        merge_block_indexes: blocks whose patch tokens are also added to the features, each normalised and projected
            by a matrix that starts at zero, so that the features are unchanged at the start.
    """

    def __init__(
        self,
        in_chans: int = 4,
        img_size: int = 512,
        patch_size: int = 16,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = DINOV3_NORM,
        window_size: int = 14,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        out_feature: str = "last_feat",
        num_register_tokens: int = NUM_REGISTERS,
        use_cls_token: bool = True,
        ffn: str = "mlp",
        layer_scale_init: float | None = 1e-5,
        rope_base: float | None = 100.0,
        rope_rescale: float | None = None,
        rope_in_windows: str = "image",
        window_padding: str = "masked",
        window_prefix: str = "global",
        use_abs_pos: bool = False,
        pretrain_img_size: int = 224,
        abs_pos_resize: str = "size",
        use_rel_pos: bool = False,
        final_norm: bool = True,
        rope_coordinates: str = "image",
        merge_block_indexes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        require_choice("ViT: out_feature", out_feature, ("last_feat",))
        require_choice("ViT: ffn", ffn, tuple(FFN_LAYERS))
        require_choice("ViT: rope_coordinates", rope_coordinates, ("image", "step"))
        require_choice("ViT: rope_in_windows", rope_in_windows, ("image", "window"))
        require_choice("ViT: window_padding", window_padding, ("masked", "zeros"))
        require_choice("ViT: window_prefix", window_prefix, ("global", "mean"))
        require_choice("ViT: abs_pos_resize", abs_pos_resize, ("size", "offset", "antialias"))
        _check_indexes("window_block_indexes", window_block_indexes, depth)
        _check_indexes("residual_block_indexes", residual_block_indexes, depth)
        _check_indexes("merge_block_indexes", merge_block_indexes, depth)
        if embed_dim % num_heads:
            raise ValueError(f"ViT: num_heads {num_heads} must divide embed_dim {embed_dim}")
        if use_rel_pos and (use_cls_token or num_register_tokens or rope_base is not None):
            raise ValueError(
                "ViT: use_rel_pos needs use_cls_token=False, num_register_tokens=0 and rope_base=None, got "
                f"{use_cls_token}, {num_register_tokens} and {rope_base}"
            )
        self.in_chans = in_chans
        self.img_size = img_size
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.window_size = window_size
        self.window_block_indexes = frozenset(window_block_indexes)
        self.rope_in_windows = rope_in_windows
        self.use_act_checkpoint = use_act_checkpoint
        self.abs_pos_resize = abs_pos_resize

        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if use_cls_token else None
        self.storage_tokens = (
            nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim)) if num_register_tokens else None
        )
        self.pos_embed = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + 1  # the row of CLS comes first
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
        self.rope_embed = None
        if rope_base is not None:
            step_grid = img_size // patch_size if rope_coordinates == "step" else None
            self.rope_embed = RotaryPositions(embed_dim // num_heads, rope_base, rope_rescale, step_grid)
        self.blocks = nn.ModuleList()
        for index in range(depth):
            window = window_size if index in self.window_block_indexes else 0
            attention = Attention(
                embed_dim,
                num_heads,
                qkv_bias,
                window_size=window,
                pad_windows=window_padding == "zeros",
                prefix_update=window_prefix,
                rel_pos_grid=(window or img_size // patch_size) if use_rel_pos else None,
            )
            block = Block(
                embed_dim,
                attention=attention,
                hidden_dim=round(embed_dim * mlp_ratio),
                ffn=ffn,
                norm_layer=norm_layer,
                layer_scale_init=layer_scale_init,
                drop_path=drop_path_rate * index / max(depth - 1, 1),
                use_residual=index in residual_block_indexes,
            )
            self.blocks.append(block)
        self.norm = norm_layer(embed_dim) if final_norm else nn.Identity()
        self._init_weights()
        self.merge = nn.ModuleDict(
            {str(index): MergeProjection(embed_dim, norm_layer) for index in sorted(set(merge_block_indexes))}
        )

    @property
    def num_prefix_tokens(self) -> int:
        registers = 0 if self.storage_tokens is None else self.storage_tokens.shape[1]
        return registers + (self.cls_token is not None)

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, in_chans, H, W) to patch features (B, embed_dim, ceil(H / p), ceil(W / p)).

        Sides that the patch size p does not divide are zero-padded at the bottom and right.

        Args:
            needed: bool (B or 1, ceil(H / p), ceil(W / p)), the patches whose features will be read; None for all.
                Other features are unspecified but finite, and in eval mode the last block does not compute them.
        """
        patches, grid = self.patch_embed(x)  # (B, HW, D)
        tokens = self._with_prefix(patches, grid)  # (B, P + HW, D)
        merged = 0
        rotations = self._rotations(grid)
        for index in range(len(self.blocks)):
            tokens = self._run_block(index, tokens, grid, rotations, needed)
            if str(index) in self.merge:
                merged = merged + self.merge[str(index)](tokens[:, self.num_prefix_tokens :])
        patches = self.norm(tokens)[:, self.num_prefix_tokens :]
        if self.merge:
            patches = patches + merged
        return _as_map(patches, grid)  # (B, D, H, W) in channels-last memory

    def features(self, x: Tensor, blocks: Sequence[int], norm: bool = True) -> list[Tensor]:
        """Patch maps after several blocks, each (B, embed_dim, ceil(H / p), ceil(W / p)), in the order of `blocks`.

        Args:
            blocks: indexes from 0; negative ones count from the last block. Blocks after the last of them are not run.
            norm: whether the final norm is applied to each map, as in DINOv2's `get_intermediate_layers`.

        Raises:
            InputError: no such block.

        Example:
            >>> vit = ViT(in_chans=3, embed_dim=96, depth=4, num_heads=3)
            >>> maps = vit.features(torch.zeros(1, 3, 32, 48), blocks=[1, 3])
            >>> [tuple(features.shape) for features in maps]
            [(1, 96, 2, 3), (1, 96, 2, 3)]
        """
        depth = len(self.blocks)
        outside = [index for index in blocks if not -depth <= index < depth]
        if outside:
            raise InputError(f"ViT: expected blocks from {-depth} to {depth - 1}, got {outside}")
        wanted = [index % depth for index in blocks]
        patches, grid = self.patch_embed(x)  # (B, HW, D)
        tokens, rotations, maps = self._with_prefix(patches, grid), self._rotations(grid), {}
        for index in range(max(wanted, default=-1) + 1):
            tokens = self._run_block(index, tokens, grid, rotations)
            if index in wanted:
                kept = self.norm(tokens) if norm else tokens
                maps[index] = _as_map(kept[:, self.num_prefix_tokens :], grid)
        return [maps[index] for index in wanted]

    def _run_block(
        self,
        index: int,
        tokens: Tensor,
        grid: tuple[int, int],
        rotations: tuple[Rotation | None, Rotation | None],
        needed: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, P + HW, D) after a block. With `needed`, those of other patches are arbitrary but finite."""
        block = self.blocks[index]
        rotation = rotations[index in self.window_block_indexes]
        if index == len(self.blocks) - 1 and needed is not None and not self.training:
            return block_at(block, tokens, grid, rotation, needed)
        if self.use_act_checkpoint and self.training:
            return checkpoint(block, tokens, grid, rotation, use_reentrant=False)
        return block(tokens, grid, rotation)

    def parameter_layers(self) -> Iterator[tuple[nn.Parameter, int]]:
        """Yield each parameter of the pretrained trunk with its layer for learning-rate decay.

        0 is the embedding of patches, positions and tokens; i + 1 is block i with its relative positions. New layers
        and the last one (residual convolutions, merge projections, final norm) are not yielded. They are trained at the
        full rate, as in ViTMatte.
        """
        embeddings = (self.cls_token, self.storage_tokens, self.pos_embed)
        for parameter in (*self.patch_embed.parameters(), *(e for e in embeddings if e is not None)):
            yield parameter, 0
        for index, block in enumerate(self.blocks):
            new = set() if block.residual is None else set(block.residual.parameters())
            yield from ((parameter, index + 1) for parameter in block.parameters() if parameter not in new)

    def token_parameters(self) -> list[nn.Parameter]:
        """Learned tokens, position embedding and LayerScale factors, which are exempt from weight decay.

        Tables of relative positions are decayed, as in ViTDet, whose settings exempt `pos_embed` alone.
        """
        scales = [p for name, p in self.named_parameters() if name.endswith(".gamma")]
        return [p for p in (self.cls_token, self.storage_tokens, self.pos_embed) if p is not None] + scales

    def metadata(self) -> dict[str, float]:
        return {"layer_norm_eps": self.norm.eps} if isinstance(self.norm, nn.LayerNorm) else {}

    def _with_prefix(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        cls_token = self.cls_token
        if self.pos_embed is not None:
            patches = patches + self._interpolated_positions(grid)
            cls_token = None if cls_token is None else cls_token + self.pos_embed[:, :1]
        prefix = [t.expand(len(patches), -1, -1) for t in (cls_token, self.storage_tokens) if t is not None]
        return torch.cat([*(t.to(patches.dtype) for t in prefix), patches], dim=1)

    def _interpolated_positions(self, grid: tuple[int, int]) -> Tensor:
        """Absolute positions for `grid`, (1, HW, D); see `abs_pos_resize`."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        positions = self.pos_embed[:, 1:]
        if grid == (side, side):
            return positions
        square = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        if self.abs_pos_resize == "offset":
            target = {"scale_factor": tuple((length + POSITION_OFFSET) / side for length in grid)}
        else:
            target = {"size": grid, "antialias": self.abs_pos_resize == "antialias"}
        resized = F.interpolate(square.float(), mode="bicubic", align_corners=False, **target)
        return resized.flatten(2).transpose(1, 2)

    def _rotations(self, grid: tuple[int, int]) -> tuple[Rotation | None, Rotation | None]:
        """Rotary tables (cos, sin) for global and for windowed blocks, with one random scale per forward pass."""
        if self.rope_embed is None:
            return None, None
        scale = self.rope_embed.draw_scale()
        image = self.rope_embed(grid, scale=scale)
        if self.rope_in_windows == "image" or not self.window_block_indexes:
            return image, image
        return image, self.rope_embed(grid, restart=self.window_size, scale=scale)

    def _init_weights(self) -> None:
        init_linear_layers(self)
        for tokens in (self.cls_token, self.storage_tokens, self.pos_embed):
            if tokens is not None:
                nn.init.trunc_normal_(tokens, std=0.02)


def _as_map(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    return patches.unflatten(1, grid).permute(0, 3, 1, 2)  # (B, HW, D) -> (B, D, H, W)


def _check_indexes(name: str, indexes: Sequence[int], depth: int) -> None:
    outside = [index for index in indexes if not 0 <= index < depth]
    if outside:
        raise InputError(f"ViT: {name} contains {outside}, but there are {depth} blocks, 0 to {depth - 1}")
