"""The matting architecture: image and trimap in, alpha (or training losses) out."""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.images.trimap_tensors import quantise_trimap_tensor
from modeling.colour_prior import ColourPrior
from modeling.trimap_input import TRIMAP_CHANS, encode_trimap, resize_trimap_channels
from runtime.errors import InputError


class ViTMatte(nn.Module):
    """A ViT backbone and a detail-capture decoder over RGB + trimap (Yao et al., "ViTMatte", 2023).

    Args:
        backbone: maps (B, 4, H, W), or 6 channels with a one-hot trimap, to features (B, C, H/16, W/16).
        decoder: maps features and the full-resolution input, of `decoder.img_chans` channels, to alpha (B, 1, H, W)
            in [0, 1]; for `sparse_decoding` it is as DetailCapture, with `unknown` and `needed_features`.
        criterion: training losses of (alpha, true alpha, trimap).
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] that the backbone was pretrained with.
        input_format: "RGB"; kept from ViTMatte's configs.
        size_divisibility: the batch is padded at the bottom and right until this divides both sides.
        colour_prior: extra full-resolution channels for the decoder; None for the published model.
        trimap_input: "value" is the published model's fourth channel of 0, 0.5 and 1. "one_hot" is three channels,
            background, unknown and foreground, so that unknown need not lie half-way between the others; backbone and
            decoder then take two channels more. Padding is 0 in all three: no region, as the decoder's convolutions
            pad too, so a border looks the same whether or not the size needed padding.
        sparse_decoding: in eval mode compute only what alpha in the unknown region depends on, and return the
            trimap's 0 and 1 elsewhere, as they are written to file. False returns the decoder's values everywhere.
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
        sparse_decoding: bool = True,
        trimap_input: str = "value",
    ) -> None:
        super().__init__()
        if input_format != "RGB":
            raise ValueError(f"ViTMatte: input_format must be 'RGB', got {input_format!r}")
        if trimap_input not in TRIMAP_CHANS:
            raise ValueError(f"ViTMatte: trimap_input must be one of {list(TRIMAP_CHANS)}, got {trimap_input!r}")
        _check_channels(backbone, decoder, TRIMAP_CHANS[trimap_input], colour_prior)
        self.backbone = backbone
        self.decoder = decoder
        self.criterion = criterion
        self.size_divisibility = size_divisibility
        self.colour_prior = colour_prior
        self.sparse_decoding = sparse_decoding
        self.trimap_input = trimap_input
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict in eval mode, return losses in training mode.

        Args:
            batch: "image" (B, 3, H, W) RGB float in [0, 1] and "trimap" (B, 1, H, W), quantised here; in training
                mode also "alpha" (B, 1, H, W) in [0, 1], and where the batch is part of a larger one "unknown_pixels",
                the number that its losses divide by (see MattingCriterion). Any H, W >= 1, any device.

        Returns:
            {"phas": (B, 1, H, W) float32 in [0, 1]} in eval mode, else name -> scalar loss.
        """
        device = self.pixel_mean.device
        image, trimap = (batch[key].to(device, non_blocking=True) for key in ("image", "trimap"))
        if not self.training:
            return {"phas": self.predict(image, trimap)}
        trimap = quantise_trimap_tensor(trimap)
        phas = self._alpha(image, trimap, unknown=None)
        alpha = batch["alpha"].to(device, non_blocking=True)
        return self.criterion(phas, alpha, trimap, batch.get("unknown_pixels"))

    def predict(self, image: Tensor, trimap: Tensor, encoder_scale: int = 1) -> Tensor:
        """Alpha (B, 1, H, W) in [0, 1], as forward in eval mode.

        Args:
            image, trimap: as in forward's batch, on the model's device.
            encoder_scale: the backbone sees an image so many times smaller, which saves most of the memory and time of
                large images; the decoder still works at full resolution. More than 1 is an approximation.
        """
        trimap = quantise_trimap_tensor(trimap)
        unknown = trimap == 0.5 if self.sparse_decoding else None
        phas = self._alpha(image, trimap, unknown, encoder_scale)
        return phas if unknown is None else torch.where(unknown, phas, trimap.to(phas.dtype))

    def _alpha(self, image: Tensor, trimap: Tensor, unknown: Tensor | None, encoder_scale: int = 1) -> Tensor:
        """Alpha (B, 1, H, W), at least where `unknown` (B, 1, H, W) is true; None for everywhere."""
        height, width = image.shape[-2:]
        if image.shape[-2:] != trimap.shape[-2:]:
            raise ValueError(f"ViTMatte: image is {width} x {height}, trimap {trimap.shape[-1]} x {trimap.shape[-2]}")
        inputs = self._inputs(image, trimap)
        unknown = None if unknown is None else pad_to_multiple(unknown, self.size_divisibility)
        features = self._encode(inputs, unknown) if encoder_scale == 1 else self._encode_small(inputs, encoder_scale)
        if self.colour_prior is not None:
            prior = self.colour_prior(image, trimap)
            inputs = torch.cat([inputs, pad_to_multiple(prior, self.size_divisibility)], dim=1)
        return self.decoder(features, inputs, unknown)[..., :height, :width]

    def _inputs(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Normalised RGB and the trimap's channels, zero-padded: (B, 4 or 6, H', W'), made in place to save a copy."""
        height, width = image.shape[-2:]
        multiple = self.size_divisibility
        chans = 3 + TRIMAP_CHANS[self.trimap_input]
        inputs = image.new_zeros(len(image), chans, height + -height % multiple, width + -width % multiple)
        inputs[:, :3, :height, :width] = image
        inputs[:, :3, :height, :width].sub_(self.pixel_mean).div_(self.pixel_std)
        inputs[:, 3:, :height, :width] = encode_trimap(trimap, self.trimap_input)
        return inputs

    def _encode(self, inputs: Tensor, unknown: Tensor | None) -> Tensor:
        """The backbone's features, at least those that the decoder reads for `unknown`."""
        if unknown is None or "needed" not in inspect.signature(self.backbone.forward).parameters:
            return self.backbone(inputs)
        return self.backbone(inputs, needed=self.decoder.needed_features(unknown)[:, 0])

    def _encode_small(self, inputs: Tensor, scale: int) -> Tensor:
        """Features (B, C, H / 16, W / 16) of the inputs (B, 4 or 6, H, W) made `scale` times smaller."""
        patch = self.backbone.patch_size
        grid = [side // patch for side in inputs.shape[-2:]]
        size = [patch * -(-side // scale) for side in grid]  # whole patches, so that the grids cover the same image
        image = F.interpolate(inputs[:, :3], size=size, mode="bilinear", antialias=True)
        small = torch.cat([image, resize_trimap_channels(inputs[:, 3:], size)], dim=1)
        return F.interpolate(self.backbone(small), size=grid, mode="bilinear")


def _check_channels(
    backbone: nn.Module, decoder: nn.Module, trimap_chans: int, colour_prior: ColourPrior | None
) -> None:
    prior_chans = 0 if colour_prior is None else colour_prior.out_chans
    channels = 3 + trimap_chans
    if getattr(backbone, "in_chans", channels) != channels:
        raise InputError(
            f"ViTMatte: backbone.in_chans must be {channels} (RGB and {trimap_chans} of the trimap), "
            f"got {backbone.in_chans}"
        )
    if decoder.img_chans != channels + prior_chans:
        raise InputError(
            f"ViTMatte: decoder.img_chans must be {channels + prior_chans} (RGB, {trimap_chans} of the trimap and "
            f"{prior_chans} of the prior), got {decoder.img_chans}"
        )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the bottom and right of a (B, C, H, W) batch until `multiple` divides H and W; no copy if it does."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, padding) if any(padding) else x
