"""Networks small enough for a unit test."""

import torch

from modeling.backbone import ViT, dinov2_arguments
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import Segmentation, ViTMatte
from modeling.priors.colour_prior import ColourPrior


def small_model(colour_prior: ColourPrior | None = None, seed: int = 0) -> ViTMatte:
    torch.manual_seed(seed)
    img_chans = 4 + (colour_prior.out_chans if colour_prior else 0)
    return ViTMatte(
        backbone=ViT(
            embed_dim=32, depth=2, num_heads=2, window_size=4, window_block_indexes=[0], residual_block_indexes=[1]
        ),
        decoder=DetailCapture(in_chans=32, img_chans=img_chans, convstream_out=[8, 8, 16], fusion_out=[16, 16, 8, 8]),
        criterion=MattingCriterion(),
        pixel_mean=[0.485, 0.456, 0.406],
        pixel_std=[0.229, 0.224, 0.225],
        colour_prior=colour_prior,
    )  # fmt: skip


def option_model(
    seed: int = 0,
    trimap_input: str = "value",
    in_chans: int | None = None,
    img_chans: int | None = None,
    patch_size: int = 16,
    fusions: int = 4,
    **settings,
) -> ViTMatte:
    torch.manual_seed(seed)
    chans = {"one_hot": 6}.get(trimap_input, 4)
    widths = [16, 16, 8, 8, 8, 8]
    model = ViTMatte(
        backbone=ViT(
            in_chans=in_chans or chans, embed_dim=32, depth=2, num_heads=2, window_size=3, window_block_indexes=[0],
            residual_block_indexes=[1], layer_scale_init=1.0, img_size=64, patch_size=patch_size,
        ),
        decoder=DetailCapture(
            32, img_chans or chans, convstream_out=[8, 8, 16, 16, 16][: fusions - 1], fusion_out=widths[:fusions]
        ),
        criterion=MattingCriterion(),
        pixel_mean=[0.485, 0.456, 0.406],
        pixel_std=[0.229, 0.224, 0.225],
        trimap_input=trimap_input,
        **settings,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            if parameter.ndim == 4:  # so that alpha depends on what enters
                torch.nn.init.kaiming_normal_(parameter)
    return model


def small_segmentation(seed: int = 0, drop_path_rate: float = 0.0, **settings) -> Segmentation:
    """Two classes on a DINOv2 of four blocks and 24 channels, every tensor random."""
    torch.manual_seed(seed)
    model = Segmentation(
        backbone=ViT(
            in_chans=3, patch_size=14, embed_dim=24, depth=4, num_heads=2, layer_scale_init=1.0, pretrain_img_size=56,
            drop_path_rate=drop_path_rate, **dinov2_arguments(registers=0),
        ),
        classes=[
            {"name": "background", "colour": [0, 0, 0], "value": 0},
            {"name": "person", "colour": [0, 255, 0], "value": 1},
        ],
        pixel_mean=[0.485, 0.456, 0.406],
        pixel_std=[0.229, 0.224, 0.225],
        **{"out_layers": [0, 1, 2, 3]} | settings,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model
