"""Models, images and trimaps for the sections."""

import torch
from torch import Tensor, nn

from modeling.backbone import DINOV3_PIXEL_STATISTICS, ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte
from tools.benchmark_decoder import band_around, draw_blobs
from tools.benchmark_inference import our_model, randomise, transformers_model

WINDOWED, RESIDUAL = [0, 1, 3, 4, 6, 7, 9, 10], [2, 5, 8, 11]


def dinov3_vitmatte(small: bool = False) -> ViTMatte:
    """The model of configs/ViTMatte_S_100ep.py, which cannot be loaded without Detectron2, with its initial weights.

    Args:
        small: whether the model has two narrow blocks.
    """
    mean, std = DINOV3_PIXEL_STATISTICS["lvd1689m"]
    backbone, decoder = ViT(window_block_indexes=WINDOWED, residual_block_indexes=RESIDUAL), DetailCapture()
    if small:
        backbone = ViT(embed_dim=32, depth=2, num_heads=2, window_block_indexes=[0], residual_block_indexes=[1])
        decoder = DetailCapture(32, convstream_out=[8, 8, 8], fusion_out=[8, 8, 8, 8])
    return ViTMatte(backbone=backbone, decoder=decoder, criterion=MattingCriterion(), pixel_mean=mean, pixel_std=std)


def random_dinov3_vitmatte(small: bool = False) -> ViTMatte:
    """The model of `dinov3_vitmatte` with random values in every tensor, in eval mode."""
    model = dinov3_vitmatte(small)
    randomise(model)
    return model.eval()


def random_original_vitmatte() -> ViTMatte:
    """ViTMatte-S as published, with random values in every tensor, in eval mode."""
    return our_model(transformers_model())


def random_pair(size: tuple[int, int], share: float, batch: int = 1, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) in [0, 1], and trimaps (B, 1, H, W) of 0, 0.5 and 1 with a `share` of unknown pixels."""
    image = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))
    trimaps = []
    for seed in range(batch):
        blobs = draw_blobs(size, seed)
        known = torch.from_numpy(blobs)[None, None].float()
        trimaps.append(torch.where(band_around(blobs, share), 0.5, known))
    return image.to(device), torch.cat(trimaps).to(device)


def named(size: tuple[int, int]) -> str:
    """Width x height."""
    return f"{size[1]} x {size[0]}"


def parameters_of(model: nn.Module) -> Tensor:
    """All parameters as one vector on the CPU."""
    return torch.cat([parameter.detach().flatten().float().cpu() for parameter in model.parameters()])
