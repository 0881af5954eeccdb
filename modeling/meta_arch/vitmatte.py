"""The matting architecture: image and trimap in, alpha (or training losses) out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.trimap_tensors import quantise_trimap_tensor
from modeling.colour_prior import ColourPrior


class ViTMatte(nn.Module):
    """A ViT backbone and a detail-capture decoder over RGB + trimap (Yao et al., "ViTMatte", 2023).

    Args:
        backbone: maps (B, 4, H, W) to features (B, C, H/16, W/16).
        decoder: maps features and the full-resolution input, of `decoder.img_chans` channels, to alpha (B, 1, H, W)
            in [0, 1].
        criterion: training losses of (alpha, true alpha, trimap).
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] that the backbone was pretrained with.
        input_format: "RGB"; kept from ViTMatte's configs.
        size_divisibility: the batch is padded at the bottom and right until this divides both sides.
        colour_prior: extra full-resolution channels for the decoder; None for the published model.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        decoder: nn.Module,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "RGB",
        size_divisibility: int = 32,
        colour_prior: ColourPrior | None = None,
    ) -> None:
        super().__init__()
        if input_format != "RGB":
            raise ValueError(f"ViTMatte: input_format must be 'RGB', got {input_format!r}")
        prior_chans = 0 if colour_prior is None else colour_prior.out_chans
        if decoder.img_chans != 4 + prior_chans:
            raise ValueError(
                f"ViTMatte: decoder.img_chans must be {4 + prior_chans} (RGB, trimap and {prior_chans} of the prior), "
                f"got {decoder.img_chans}"
            )
        self.backbone = backbone
        self.decoder = decoder
        self.criterion = criterion
        self.size_divisibility = size_divisibility
        self.colour_prior = colour_prior
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict in eval mode, return losses in training mode.

        Args:
            batch: "image" (B, 3, H, W) RGB float in [0, 1] and "trimap" (B, 1, H, W), quantised here; in training
                mode also "alpha" (B, 1, H, W) in [0, 1]. Any H, W >= 1, any device.

        Returns:
            {"phas": (B, 1, H, W) float32 in [0, 1]} in eval mode, else name -> scalar loss.
        """
        device = self.pixel_mean.device
        image = batch["image"].to(device, non_blocking=True)
        trimap = quantise_trimap_tensor(batch["trimap"].to(device, non_blocking=True))
        phas = self._predict(image, trimap)
        if self.training:
            return self.criterion(phas, batch["alpha"].to(device, non_blocking=True), trimap)
        return {"phas": phas}

    def _predict(self, image: Tensor, trimap: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if image.shape[-2:] != trimap.shape[-2:]:
            raise ValueError(f"ViTMatte: image is {width} x {height}, trimap {trimap.shape[-1]} x {trimap.shape[-2]}")
        normalised = (image - self.pixel_mean) / self.pixel_std
        inputs = pad_to_multiple(torch.cat([normalised, trimap], dim=1), self.size_divisibility)  # (B, 4, H', W')
        features = self.backbone(inputs)
        if self.colour_prior is not None:
            prior = self.colour_prior(image, trimap)
            inputs = torch.cat([inputs, pad_to_multiple(prior, self.size_divisibility)], dim=1)
        return self.decoder(features, inputs)[..., :height, :width]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the bottom and right of a (B, C, H, W) batch until `multiple` divides H and W; no copy if it does."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, padding) if any(padding) else x
