"""The published DINOv3 ViT family, from Siméoni et al., "DINOv3" (2025): what the configs and the converter share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DINOv3Variant:
    """Architecture of one published model; head dimension, patch size and 4 registers are common to the family."""

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
