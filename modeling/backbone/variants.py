"""Published models of DINOv3 (Siméoni et al., 2025) and DINOv2 (Oquab et al., 2023)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DINOv3Variant:
    """Architecture of one published model. All have the same head dimension, patch size and 4 registers."""

    embed_dim: int
    depth: int
    num_heads: int
    ffn: str  # "mlp" (fc1, GELU, fc2) or "swiglu" (gate, up, down)
    ffn_hidden_dim: int
    patch_size: int = 16

    @property
    def mlp_ratio(self) -> float:
        return self.ffn_hidden_dim / self.embed_dim


DINOV3_VARIANTS = {
    "dinov3_vits16": DINOv3Variant(384, 12, 6, "mlp", 1536),
    "dinov3_vits16plus": DINOv3Variant(384, 12, 6, "swiglu", 1536),
    "dinov3_vitb16": DINOv3Variant(768, 12, 12, "mlp", 3072),
    "dinov3_vitl16": DINOv3Variant(1024, 24, 16, "mlp", 4096),
    "dinov3_vitl16plus": DINOv3Variant(1024, 24, 16, "swiglu", 4096),
    "dinov3_vith16plus": DINOv3Variant(1280, 32, 20, "swiglu", 5120),
}

DINOV3_PIXEL_STATISTICS = {
    "lvd1689m": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "sat493m": ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143)),
}

# Distilled models of DINOv2 as (embed_dim, depth, num_heads), of patch 14, with and without four registers. ViT-g, the
# teacher, is missing because it has a different feed-forward layer.
DINOV2_VARIANTS = {
    "dinov2_vits14": (384, 12, 6),
    "dinov2_vitb14": (768, 12, 12),
    "dinov2_vitl14": (1024, 24, 16),
}
DINOV2_PATCH_SIZE = 14
DINOV2_IMG_SIZE = 518  # pixels of the absolute positions: 37 x 37 patches
DINOV2_EPS = 1e-6
IMAGENET_STATISTICS = DINOV3_PIXEL_STATISTICS["lvd1689m"]


def dinov2_arguments(registers: int) -> dict[str, Any]:
    """Arguments of `ViT` that DINOv2 models share, without `norm_layer` (of eps DINOV2_EPS) and widths.

    Args:
        registers: number of register tokens, 0 or 4, which also determines how positions are interpolated.
    """
    return {
        "num_register_tokens": registers,
        "use_cls_token": True,
        "rope_base": None,
        "use_abs_pos": True,
        "abs_pos_resize": "antialias" if registers else "offset",
    }
