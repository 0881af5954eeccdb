from modeling.backbone.base import Encoder
from modeling.backbone.prior_swin import PriorSwin
from modeling.backbone.resnet34_d import ResNet34D
from modeling.backbone.variants import (
    DINOV2_VARIANTS,
    DINOV3_PIXEL_STATISTICS,
    DINOV3_VARIANTS,
    DINOv3Variant,
    dinov2_arguments,
)
from modeling.backbone.vgg16 import VGG16
from modeling.backbone.vit import ViT

__all__ = [
    "DINOV2_VARIANTS",
    "DINOV3_PIXEL_STATISTICS",
    "DINOV3_VARIANTS",
    "VGG16",
    "DINOv3Variant",
    "Encoder",
    "PriorSwin",
    "ResNet34D",
    "ViT",
    "dinov2_arguments",
]
