"""Matting without a trimap: a DINOv3 ViT, usually frozen, and a decoder that is trained on its features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.backbone import Encoder
from modeling.backbone.blocks import Block
from modeling.criterion.edge_criterion import EdgeCriterion
from modeling.decoder.feature_decoder import FeatureDecoder
from modeling.decoder.sparse.bands import decode_in_bands
from modeling.meta_arch.base import Batch, ParameterRoles
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint
from modeling.meta_arch.normalised import NormalisedSystem
from modeling.trimap_input import encode_trimap
from runtime.errors import InputError

FEATURES = "features"  # key of a batch with the result of `frozen_features`


@dataclass(frozen=True)
class Encoded:
    """An encoded batch.

    Attributes:
        features: (B, K C, h, w), the concatenated features of K blocks.
        pixels: (B, 3 or 4, 16 h, 16 w), normalised and padded.
        size: (H, W) of the image.
    """

    features: Tensor
    pixels: Tensor
    size: tuple[int, int]


class FrozenDINOv3(NormalisedSystem):
    """Alpha from the patch features of a ViT (after nikhiliit/Dinov3_matting).

    `train.freeze=[backbone]` freezes the encoder, `[first_8]` its embeddings and first eight blocks, `[]` nothing.
    While any part is frozen, rotary coordinates are not augmented, so features are the same in training and evaluation.

    Args:
        backbone: encoder of RGB.
        decoder: network from features and pixels to alpha.
        criterion: training losses of (alpha, true alpha, and for composition the image and its layers).
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] of the backbone's pretraining.
        out_blocks: blocks whose patch features, each after the final norm, are the decoder's input; negative ones count
            from the last.

    Raises:
        InputError: the parts do not match.
    """

    inputs = ("image",)
    has_scalable_encoder = True

    def __init__(
        self,
        *,
        backbone: Encoder,
        decoder: FeatureDecoder,
        criterion: EdgeCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        out_blocks: Sequence[int] = (-1,),
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        if backbone.in_chans != 3:
            raise InputError(f"FrozenDINOv3: backbone.in_chans must be 3 (RGB), got {backbone.in_chans}")
        if (decoder.in_chans, decoder.num_maps) != (backbone.embed_dim, len(out_blocks)):
            raise InputError(
                f"FrozenDINOv3: expected a decoder of {len(out_blocks)} maps (out_blocks {list(out_blocks)}), of "
                f"{backbone.embed_dim} channels each; got num_maps {decoder.num_maps} and in_chans {decoder.in_chans}"
            )
        depth = len(getattr(backbone, "blocks", ()))
        indexes = [index % depth if depth and -depth <= index < depth else index for index in out_blocks]
        if len(set(indexes)) < len(indexes):
            raise InputError(
                f"FrozenDINOv3: expected different out_blocks, got {list(out_blocks)}, two of which are the same block"
            )
        decoder.check_patch_size(backbone.patch_size)
        self.backbone = backbone
        self.decoder = decoder
        self.criterion = criterion
        self.out_blocks = tuple(out_blocks)
        self.size_divisibility = self.min_side = backbone.patch_size
        if decoder.trimap_input:
            self.inputs = ("image", "trimap")
        if criterion.needs_layers:
            self.targets, self.learns_composition = ("alpha", "fg", "bg"), True

    def train(self, mode: bool = True) -> "FrozenDINOv3":
        super().train(mode)
        rope = getattr(self.backbone, "rope_embed", None)
        if rope is not None and any(not parameter.requires_grad for parameter in self.backbone.parameters()):
            rope.eval()  # it has no parameters, so freezing the blocks does not include it
        return self

    def prepare(self, batch: Batch) -> dict[str, Tensor]:
        tensors = super().prepare(batch)
        if FEATURES in batch:
            tensors[FEATURES] = batch[FEATURES].to(self.device, non_blocking=True)
        return tensors

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Encoded:
        image = inputs["image"]
        height, width = image.shape[-2:]
        patch = self.backbone.patch_size
        if min(height, width) < self.min_side:
            raise InputError(
                f"an image of {width} x {height} pixels is smaller than a patch of {patch} x {patch}; make it larger"
            )
        pixels = self._pixels(inputs)
        if FEATURES in inputs:
            features = inputs[FEATURES].float()
            expected = [side // patch for side in pixels.shape[-2:]]
            if list(features.shape[-2:]) != expected:
                raise InputError(f"features: expected a grid of {expected}, got {list(features.shape[-2:])}")
        else:
            features = self._features(pixels[:, :3], scale)
        return Encoded(features, pixels, (height, width))

    def decode(self, state: Encoded) -> dict[str, Tensor]:
        height, width = state.size
        batch, _, rows, columns = state.pixels.shape
        if self.training or batch * rows * columns <= self.decoder.band_pixels:
            alpha = self.decoder(state.features, state.pixels)
        else:
            everywhere = torch.ones_like(state.pixels[:, :1], dtype=torch.bool)
            halo = self.decoder.reach // self.backbone.patch_size
            alpha = decode_in_bands(
                self.decoder, state.features, state.pixels, everywhere, self.decoder.band_pixels, halo
            )
        return {"alpha": alpha[..., :height, :width]}

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        alpha = self.decode(self.encode(batch))["alpha"]
        layers = (batch["image"], batch["fg"], batch["bg"]) if self.criterion.needs_layers else ()
        return self.criterion(alpha, batch["alpha"], *layers)

    def frozen_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        if any(parameter.requires_grad for parameter in self.backbone.parameters()):
            raise InputError(
                "train.cache_features: the encoder is trained; freeze all of it with train.freeze=[backbone]"
            )
        return self._features(self._pixels(inputs)[:, :3])

    def footprint(self) -> Footprint:
        features = len(self.out_blocks) * self.backbone.embed_dim / self.backbone.patch_size**2
        return Footprint(
            picture=FLOAT * PICTURE_FLOATS,
            encoder=FLOAT * (self.backbone.peak_floats + features),
            features=FLOAT * features,
            band=FLOAT * self.decoder.peak_floats,
            band_pixels=self.decoder.band_pixels,
            token_pixels=self.backbone.patch_size**2,
        )

    def parameter_roles(self) -> ParameterRoles:
        """Roles of an encoder and a head; the encoder's final norm is pretrained too, as deep as the last block."""
        roles = super().parameter_roles()
        deepest = max(roles.layers.values(), default=0)
        layers = {parameter: roles.layers.get(parameter, deepest) for parameter in self.backbone.parameters()}
        return ParameterRoles(layers=layers, tokens=roles.tokens, head=roles.head, new=roles.head)

    def compile_encoder(self, **options: Any) -> None:
        """Compile the decoder, whose work depends on sizes alone, and each block of the encoder."""
        self.decoder.compile(**options)
        for module in self.backbone.modules():
            if isinstance(module, Block):
                module.compile(**options)

    def _pixels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalised RGB, and the trimap if the decoder uses it, zero-padded to whole patches."""
        image = (inputs["image"] - self.pixel_mean) / self.pixel_std
        if self.decoder.trimap_input:
            sizes = [tuple(each.shape[-2:]) for each in (image, inputs["trimap"])]
            if sizes[0] != sizes[1]:
                raise InputError(f"FrozenDINOv3: the image is {sizes[0]} pixels (height, width), its trimap {sizes[1]}")
            image = torch.cat([image, encode_trimap(inputs["trimap"], "value")], dim=1)
        height, width = image.shape[-2:]
        padding = (0, -width % self.size_divisibility, 0, -height % self.size_divisibility)
        return F.pad(image, padding) if any(padding) else image

    def _features(self, rgb: Tensor, scale: int = 1) -> Tensor:
        """Features (B, K C, h, w) of the blocks, computed from an image reduced by `scale`."""
        if scale == 1:
            return torch.cat(self.backbone.features(rgb, self.out_blocks), dim=1)
        patch = self.backbone.patch_size
        grid = [side // patch for side in rgb.shape[-2:]]
        size = [patch * -(-side // scale) for side in grid]  # whole patches, so that the grids cover the same image
        small = F.interpolate(rgb, size=size, mode="bilinear", antialias=True)
        maps = self.backbone.features(small, self.out_blocks)
        return F.interpolate(torch.cat(maps, dim=1), size=grid, mode="bilinear")
