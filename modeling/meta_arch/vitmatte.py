"""ViTMatte: from image and trimap to alpha, or to training losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.images.trimap_tensors import fuse_trimap
from modeling.backbone import Encoder
from modeling.criterion import MattingCriterion
from modeling.decoder import Decoder
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, PRIOR_FLOATS, Footprint
from modeling.meta_arch.trimap_matting import TrimapMatting, check_divisibility, pad_to_multiple
from modeling.priors.closed_form_prior import ClosedFormPrior
from modeling.priors.colour_prior import ColourPrior
from modeling.traceable import TraceableViTMatte
from runtime.errors import InputError


@dataclass(frozen=True)
class Encoded:
    """An encoded batch.

    Attributes:
        features: (B, C, h, w) of the backbone.
        pixels: (B, img_chans, H', W') at full resolution, padded.
        unknown: (B, 1, H', W') bool, the pixels that the decoder computes; None for all.
        trimap: (B, 1, H, W) of exactly 0, 0.5 and 1.
    """

    features: Tensor
    pixels: Tensor
    unknown: Tensor | None
    trimap: Tensor


class ViTMatte(TrimapMatting):
    """A ViT backbone and a detail-capture decoder over RGB and trimap (Yao et al., "ViTMatte", 2023).

    Args:
        backbone: encoder from (B, 4, H, W), or 6 channels with a one-hot trimap, to features (B, C, H/p, W/p) of
            patches of p pixels. The decoder must support this patch size (`Decoder.check_patch_size`).
        decoder: decoder from features and the full-resolution input, of `decoder.img_chans` channels, to alpha
            (B, 1, H, W) in [0, 1]. For `sparse_decoding` it has `unknown` and `needed_features`, like DetailCapture.
        criterion, pixel_mean, pixel_std, size_divisibility: see TrimapMatting.
        input_format: "RGB"; kept from ViTMatte's configs.
        colour_prior: additional full-resolution channels for the decoder; None for the published model.
        trimap_input: see TrimapMatting; with "one_hot" the decoder also has two more channels.
        sparse_decoding: whether eval mode computes only the values on which alpha in the unknown region depends, and
            returns the trimap's 0 and 1 elsewhere, as in files. False returns the decoder's values everywhere.
        encoder_side: see System; it has no effect on training.
    """

    def __init__(
        self,
        *,
        backbone: Encoder,
        decoder: Decoder,
        criterion: MattingCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "RGB",
        size_divisibility: int = 32,
        colour_prior: ColourPrior | None = None,
        sparse_decoding: bool = True,
        trimap_input: str = "value",
        encoder_side: int | None = None,
    ) -> None:
        if input_format != "RGB":
            raise ValueError(f"ViTMatte: input_format must be 'RGB', got {input_format!r}")
        super().__init__(backbone, criterion, pixel_mean, pixel_std, size_divisibility, trimap_input)
        _check_decoder(decoder, backbone.in_chans, colour_prior)
        decoder.check_patch_size(backbone.patch_size)
        check_divisibility("ViTMatte", size_divisibility, backbone.patch_size)
        self.decoder = decoder
        self.colour_prior = colour_prior
        self.sparse_decoding = sparse_decoding
        self.encoder_side = encoder_side

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> "Encoded":
        image, trimap = inputs["image"], inputs["trimap"]
        self._check_sizes(image, trimap)
        unknown = None
        if self.sparse_decoding and not self.training:
            unknown = pad_to_multiple(trimap == 0.5, self.size_divisibility)
        pixels = self._inputs(image, trimap)
        needed = None if unknown is None else self.decoder.needed_features(unknown)
        features = self._features(pixels, needed, scale)
        if self.colour_prior is not None:
            prior = self.colour_prior(image, trimap)
            pixels = torch.cat([pixels, pad_to_multiple(prior, self.size_divisibility)], dim=1)
        return Encoded(features, pixels, unknown, trimap)

    def decode(self, state: "Encoded") -> dict[str, Tensor]:
        height, width = state.trimap.shape[-2:]
        alpha = self.decoder(state.features, state.pixels, state.unknown)[..., :height, :width]
        if state.unknown is not None:
            alpha = fuse_trimap(alpha, state.trimap)
        return {"alpha": alpha}

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        alpha = self.decode(self.encode(batch))["alpha"]
        return self.criterion(alpha, batch["alpha"], batch["trimap"], counts["unknown_pixels"])

    def footprint(self) -> Footprint:
        features = self.backbone.embed_dim / self.backbone.patch_size**2
        return Footprint(
            picture=FLOAT * (PICTURE_FLOATS + PRIOR_FLOATS * (self.decoder.img_chans - 4)),
            encoder=FLOAT * self.backbone.peak_floats,
            features=FLOAT * features,
            band=FLOAT * self.decoder.band_floats,
            band_pixels=self.decoder.band_pixels,
            token_pixels=self.backbone.patch_size**2,
        )

    def traceable(self) -> nn.Module:
        if any(isinstance(module, ClosedFormPrior) for module in self.modules()):
            raise InputError(
                "cannot export a ViTMatte with a closed-form prior to ONNX, because its steps depend on the image's "
                "size; export a model without that prior"
            )
        return TraceableViTMatte(self)

    @property
    def depends_on_padding(self) -> bool:
        """True with a prior, whose coarsest scale is the mean of the image, and with a one-hot trimap."""
        return self.colour_prior is not None or self.trimap_input == "one_hot"


def _check_decoder(decoder: Decoder, channels: int, colour_prior: ColourPrior | None) -> None:
    prior_chans = 0 if colour_prior is None else colour_prior.out_chans
    if decoder.img_chans != channels + prior_chans:
        raise InputError(
            f"ViTMatte: decoder.img_chans must be {channels + prior_chans} (RGB, {channels - 3} of the trimap and "
            f"{prior_chans} of the prior), got {decoder.img_chans}"
        )
