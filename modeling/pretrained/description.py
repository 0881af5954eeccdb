"""Description of a converted model, with which inference needs no config."""

from collections.abc import Mapping
from typing import Any

from modeling.backbone import VGG16, PriorSwin, ResNet34D, ViT
from modeling.criterion import MattingCriterion
from modeling.criterion.dim_criterion import DIMCriterion
from modeling.criterion.edge_criterion import EdgeCriterion
from modeling.decoder import DetailCapture
from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.decoder.feature_decoder import FeatureDecoder
from modeling.decoder.unpooling import RefinementNetwork, UnpoolingDecoder
from modeling.diffusion import GaussianDiffusion
from modeling.meta_arch import DIM, DiffMatte, FrozenDINOv3, ViTMatte
from modeling.pretrained.architecture import Network
from modeling.pretrained.diffmatte_architecture import DiffMatteOfOneSize, DiffMatteViT
from modeling.pretrained.dim_architecture import DIMArchitecture
from modeling.pretrained.frozen_architecture import FrozenArchitecture
from modeling.pretrained.matting_architecture import MattingArchitecture
from modeling.weights.plain_config import TARGET, plain_config

ENCODERS = {"res34": ResNet34D, "swint": PriorSwin}  # encoders of DiffMatte with a one-hot trimap


def describe(architecture: Network, statistics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Config of the model in plain values, as in checkpoints of runs; None for an encoder alone.

    Args:
        statistics: mapping with "pixel_mean" and "pixel_std".
    """
    parts = _parts(architecture)
    if parts is None:
        return None
    return plain_config({**parts, "pixel_mean": statistics["pixel_mean"], "pixel_std": statistics["pixel_std"]})


def _parts(architecture: Network) -> dict[str, Any] | None:
    if isinstance(architecture, MattingArchitecture):
        return _call(
            ViTMatte,
            backbone=_call(ViT, **architecture.vit_arguments()),
            decoder=_call(DetailCapture, **architecture.decoder_arguments()),
            criterion=_call(MattingCriterion),
        )
    if isinstance(architecture, DiffMatteViT | DiffMatteOfOneSize):
        is_vit = isinstance(architecture, DiffMatteViT)
        return _call(
            DiffMatte,
            backbone=_call(ViT, **architecture.vit_arguments()) if is_vit else _call(ENCODERS[architecture.encoder]),
            decoder=_call(DiffusionUNet, **architecture.decoder_arguments()),
            diffusion=_call(GaussianDiffusion),
            criterion=_call(MattingCriterion),
            trimap_input="value" if is_vit else "one_hot",
        )
    if isinstance(architecture, FrozenArchitecture):
        return _call(
            FrozenDINOv3,
            backbone=_call(ViT, **architecture.vit_arguments()),
            decoder=_call(FeatureDecoder, **architecture.decoder_arguments()),
            criterion=_call(EdgeCriterion),
        )
    if isinstance(architecture, DIMArchitecture):
        width = architecture.refiner_width
        return _call(
            DIM,
            stage=1 if width is None else 2,  # stages 2 and 3 have the same network
            backbone=_call(VGG16, **architecture.vgg_arguments(in_chans=4)),
            decoder=_call(UnpoolingDecoder, widths=architecture.widths),
            criterion=_call(DIMCriterion),
            refiner=None if width is None else _call(RefinementNetwork, width=width),
        )
    return None


def _call(target: type, **arguments: Any) -> dict[str, Any]:
    return {TARGET: target, **arguments}
