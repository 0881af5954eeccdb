"""The matting architecture: image and trimap in, alpha (or training losses) out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.images.trimap_tensors import fuse_trimap
from modeling.backbone import Encoder
from modeling.criterion import MattingCriterion
from modeling.decoder import Decoder
from modeling.meta_arch.base import ParameterRoles, System
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, PRIOR_FLOATS, Footprint
from modeling.priors.colour_prior import ColourPrior
from modeling.traceable import TraceableViTMatte
from modeling.trimap_input import TRIMAP_CHANS, encode_trimap, resize_trimap_channels
from runtime.errors import InputError

LARGEST_DIVISIBILITY = 4096  # pixels; a small image is padded to it


@dataclass(frozen=True)
class Encoded:
    """An encoded batch.

    Attributes:
        features: (B, C, h, w) of the backbone.
        pixels: (B, img_chans, H', W') at full resolution, padded.
        unknown: (B, 1, H', W') bool, the pixels that the decoder is asked for; None for all.
        trimap: (B, 1, H, W) of exactly 0, 0.5 and 1.
    """

    features: Tensor
    pixels: Tensor
    unknown: Tensor | None
    trimap: Tensor


class ViTMatte(System):
    """A ViT backbone and a detail-capture decoder over RGB + trimap (Yao et al., "ViTMatte", 2023).

    Args:
        backbone: maps (B, 4, H, W), or 6 channels with a one-hot trimap, to features (B, C, H/p, W/p) of patches of p
            pixels, for which the decoder must be made (`Decoder.check_patch_size`).
        decoder: maps features and the full-resolution input, of `decoder.img_chans` channels, to alpha (B, 1, H, W)
            in [0, 1]; for `sparse_decoding` it is as DetailCapture, with `unknown` and `needed_features`.
        criterion: training losses of (alpha, true alpha, trimap).
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] that the backbone was pretrained with.
        input_format: "RGB"; kept from ViTMatte's configs.
        size_divisibility: the batch is padded at the bottom and right until this divides both sides; a multiple of
            the patch size.
        colour_prior: extra full-resolution channels for the decoder; None for the published model.
        trimap_input: "value" is the published model's fourth channel of 0, 0.5 and 1. "one_hot" is three channels,
            background, unknown and foreground, so that unknown need not lie half-way between the others; backbone and
            decoder then take two channels more. Padding is 0 in all three: no region, as the decoder's convolutions
            pad too, so a border looks the same whether or not the size needed padding.
        sparse_decoding: in eval mode compute only what alpha in the unknown region depends on, and return the
            trimap's 0 and 1 elsewhere, as they are written to file. False returns the decoder's values everywhere.
    """

    has_scalable_encoder = True

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
    ) -> None:
        super().__init__()
        if input_format != "RGB":
            raise ValueError(f"ViTMatte: input_format must be 'RGB', got {input_format!r}")
        if trimap_input not in TRIMAP_CHANS:
            raise ValueError(f"ViTMatte: trimap_input must be one of {list(TRIMAP_CHANS)}, got {trimap_input!r}")
        _check_channels(backbone, decoder, TRIMAP_CHANS[trimap_input], colour_prior)
        _check_patches(backbone, decoder, size_divisibility)
        self.backbone = backbone
        self.decoder = decoder
        self.criterion = criterion
        self.size_divisibility = size_divisibility
        self.colour_prior = colour_prior
        self.sparse_decoding = sparse_decoding
        self.trimap_input = trimap_input
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> "Encoded":
        image, trimap = inputs["image"], inputs["trimap"]
        if image.shape[-2:] != trimap.shape[-2:]:
            (height, width), (trimap_height, trimap_width) = image.shape[-2:], trimap.shape[-2:]
            raise ValueError(f"ViTMatte: image is {width} x {height}, trimap {trimap_width} x {trimap_height}")
        unknown = None
        if self.sparse_decoding and not self.training:
            unknown = pad_to_multiple(trimap == 0.5, self.size_divisibility)
        pixels = self._inputs(image, trimap)
        features = self._features(pixels, unknown) if scale == 1 else self._features_of_smaller(pixels, scale)
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

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"unknown_pixels": (batch["trimap"] == 0.5).sum().float()}

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

    def parameter_roles(self) -> ParameterRoles:
        return ParameterRoles.of(self.backbone, self.decoder)

    def starts_fresh(self, key: str) -> bool:
        new = (".residual.", ".attn.rel_pos_", "backbone.merge.")
        return not key.startswith("backbone.") or any(piece in key for piece in new)

    def may_be_left_out(self, key: str) -> bool:
        return key.startswith(("backbone.cls_token", "backbone.storage_tokens", "backbone.pos_embed", "backbone.norm."))

    def metadata(self) -> dict[str, Any]:
        """Pixel statistics, and the epsilon of the backbone's LayerNorm where it ends in one."""
        values: dict[str, Any] = {
            name: [round(value, 6) for value in statistic.flatten().tolist()]
            for name, statistic in (("pixel_mean", self.pixel_mean), ("pixel_std", self.pixel_std))
        }
        return values | self.backbone.metadata()

    def sample_errors(self) -> tuple[Tensor, Tensor] | None:
        return self.criterion.last_per_sample

    def compile_encoder(self, **options: Any) -> None:
        """Compile the backbone alone: the decoder's work depends on the trimap, and each would be compiled."""
        self.backbone.compile(**options)

    def traceable(self) -> nn.Module:
        return TraceableViTMatte(self)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def padding_colour(self) -> Tensor:
        return self.pixel_mean.flatten().cpu()  # zeros after normalisation

    @property
    def depends_on_padding(self) -> bool:
        """A prior's coarsest scale is the mean of the image; and padding is no region of a one-hot trimap."""
        return self.colour_prior is not None or self.trimap_input == "one_hot"

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

    def _features(self, pixels: Tensor, unknown: Tensor | None) -> Tensor:
        """The backbone's features, at least those that the decoder reads for `unknown`."""
        needed = None if unknown is None else self.decoder.needed_features(unknown)[:, 0]
        return self.backbone(pixels, needed=needed)

    def _features_of_smaller(self, pixels: Tensor, scale: int) -> Tensor:
        """Features (B, C, H / p, W / p) of the pixels (B, 4 or 6, H, W) made `scale` times smaller."""
        patch = self.backbone.patch_size
        grid = [side // patch for side in pixels.shape[-2:]]
        size = [patch * -(-side // scale) for side in grid]  # whole patches, so that the grids cover the same image
        image = F.interpolate(pixels[:, :3], size=size, mode="bilinear", antialias=True)
        small = torch.cat([image, resize_trimap_channels(pixels[:, 3:], size)], dim=1)
        return F.interpolate(self.backbone(small), size=grid, mode="bilinear")


def _check_channels(backbone: Encoder, decoder: Decoder, trimap_chans: int, colour_prior: ColourPrior | None) -> None:
    prior_chans = 0 if colour_prior is None else colour_prior.out_chans
    channels = 3 + trimap_chans
    if backbone.in_chans != channels:
        raise InputError(
            f"ViTMatte: backbone.in_chans must be {channels} (RGB and {trimap_chans} of the trimap), "
            f"got {backbone.in_chans}"
        )
    if decoder.img_chans != channels + prior_chans:
        raise InputError(
            f"ViTMatte: decoder.img_chans must be {channels + prior_chans} (RGB, {trimap_chans} of the trimap and "
            f"{prior_chans} of the prior), got {decoder.img_chans}"
        )


def _check_patches(backbone: Encoder, decoder: Decoder, size_divisibility: int) -> None:
    decoder.check_patch_size(backbone.patch_size)
    if size_divisibility > LARGEST_DIVISIBILITY:
        raise InputError(f"ViTMatte: size_divisibility must be at most {LARGEST_DIVISIBILITY}, got {size_divisibility}")
    if size_divisibility < 1 or size_divisibility % backbone.patch_size:
        raise InputError(
            f"ViTMatte: size_divisibility must be a multiple of backbone.patch_size {backbone.patch_size}, "
            f"got {size_divisibility}"
        )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the bottom and right of a (B, C, H, W) batch until `multiple` divides H and W; no copy if it does."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, padding) if any(padding) else x
