"""The matting model: a DINOv3 ViT-S/16 as ViTMatte's hybrid backbone, and the detail capture decoder.

Sizes that follow from the backbone are interpolated, so a config that replaces the backbone changes one place.
"""

from functools import partial

from detectron2.config import LazyCall as L
from torch import nn

from modeling.backbone import DINOV3_PIXEL_STATISTICS, DINOV3_VARIANTS, ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte


def dinov3_backbone(name, window_block_indexes, residual_block_indexes, drop_path_rate=0.0):
    """A published DINOv3 architecture with ViTMatte's windows and residual convolutions."""
    variant = DINOV3_VARIANTS[name]
    return L(ViT)(
        in_chans=4,
        img_size=512,
        patch_size=16,
        embed_dim=variant.embed_dim,
        depth=variant.depth,
        num_heads=variant.num_heads,
        mlp_ratio=variant.mlp_ratio,
        ffn=variant.ffn,
        qkv_bias=True,
        drop_path_rate=drop_path_rate,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        window_size=14,
        window_block_indexes=list(window_block_indexes),
        residual_block_indexes=list(residual_block_indexes),
        use_act_checkpoint=False,
        out_feature="last_feat",
        num_register_tokens=4,
        use_cls_token=True,
        rope_rescale=None,
        rope_in_windows="image",
        window_padding="masked",
        window_prefix="global",
    )


def original_backbone(embed_dim, num_heads):
    """The backbone of the published ViTMatte models: ViTDet's ViT of 12 blocks on DINO's or MAE's weights."""
    return L(ViT)(
        in_chans=4,
        img_size=512,
        patch_size=16,
        embed_dim=embed_dim,
        depth=12,
        num_heads=num_heads,
        mlp_ratio=4,
        qkv_bias=True,
        drop_path_rate=0.0,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        window_size=14,
        window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],
        residual_block_indexes=[2, 5, 8, 11],
        use_act_checkpoint=False,
        out_feature="last_feat",
        num_register_tokens=0,
        use_cls_token=False,
        layer_scale_init=None,
        rope_base=None,
        window_padding="zeros",
        use_abs_pos=True,
        pretrain_img_size=224,
        use_rel_pos=True,
        final_norm=False,
    )


pixel_mean, pixel_std = DINOV3_PIXEL_STATISTICS["lvd1689m"]

model = L(ViTMatte)(
    backbone=dinov3_backbone(
        "dinov3_vits16",
        window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],  # 2, 5, 8 and 11 are global, each followed by convolutions
        residual_block_indexes=[2, 5, 8, 11],
    ),
    decoder=L(DetailCapture)(in_chans="${..backbone.embed_dim}"),
    criterion=L(MattingCriterion)(
        losses=["unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty"],
    ),
    pixel_mean=list(pixel_mean),
    pixel_std=list(pixel_std),
    input_format="RGB",
    size_divisibility=32,
    colour_prior=None,
)
