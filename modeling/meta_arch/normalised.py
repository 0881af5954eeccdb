"""Base class of systems whose encoder reads RGB normalised by the statistics of its pretraining."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modeling.backbone import Encoder
from modeling.meta_arch.base import ParameterRoles, System


class NormalisedSystem(System):
    """System with an encoder, a decoder, and pixel statistics, which must be the same for weights and settings.

    Args:
        pixel_mean, pixel_std: (3,) RGB statistics on the scale [0, 1] of the encoder's pretraining.
    """

    backbone: Encoder
    decoder: nn.Module

    def __init__(self, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)

    def metadata(self) -> dict[str, Any]:
        """Pixel statistics, and the epsilon of the encoder's final LayerNorm if it has one."""
        values: dict[str, Any] = {
            name: [round(value, 6) for value in statistic.flatten().tolist()]
            for name, statistic in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std))
        }
        return values | self.backbone.metadata()

    def parameter_roles(self) -> ParameterRoles:
        return ParameterRoles.of(self.backbone, self.decoder)

    def starts_fresh(self, key: str) -> bool:
        return not key.startswith("backbone.")

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def padding_colour(self) -> Tensor:
        return self.pixel_mean.flatten().cpu()  # zeros after normalisation
