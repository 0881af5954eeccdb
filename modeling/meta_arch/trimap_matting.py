"""Base class of systems that encode an image with its trimap, such as ViTMatte and DiffMatte."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.backbone import Encoder
from modeling.criterion import MattingCriterion
from modeling.meta_arch.normalised import NormalisedSystem
from modeling.trimap_input import TRIMAP_CHANS, encode_trimap, resize_trimap_channels
from runtime.errors import InputError

LARGEST_DIVISIBILITY = 4096  # pixels to which a small image is padded at most


class TrimapMatting(NormalisedSystem):
    """An encoder of normalised RGB and a trimap, which can also encode a reduced image.

    A subclass computes `_features` from `_inputs`, and alpha from the features.

    Args:
        backbone: encoder from (B, 4, H, W), or 6 channels with a one-hot trimap, to features (B, C, H/p, W/p) of
            patches of p pixels.
        criterion: training losses of (alpha, true alpha, trimap).
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] of the backbone's pretraining.
        size_divisibility: multiple of the patch size to which both sides are padded at the bottom and right.
        trimap_input: "value" for the published models' fourth channel of 0, 0.5 and 1, or "one_hot" for three channels,
            background, unknown and foreground, in which unknown need not be half-way between the others. The backbone
            then has two more channels. Padding is 0 in all three channels, which is no region, as in convolutions, so a
            border is the same with and without padding.
    """

    has_scalable_encoder = True

    def __init__(
        self,
        backbone: Encoder,
        criterion: MattingCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        trimap_input: str,
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        name = type(self).__name__
        if trimap_input not in TRIMAP_CHANS:
            raise ValueError(f"{name}: trimap_input must be one of {list(TRIMAP_CHANS)}, got {trimap_input!r}")
        trimap_chans = TRIMAP_CHANS[trimap_input]
        if backbone.in_chans != 3 + trimap_chans:
            raise InputError(
                f"{name}: backbone.in_chans must be {3 + trimap_chans} (RGB and {trimap_chans} of the trimap), "
                f"got {backbone.in_chans}"
            )
        self.backbone = backbone
        self.criterion = criterion
        self.size_divisibility = size_divisibility
        self.trimap_input = trimap_input

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"unknown_pixels": (batch["trimap"] == 0.5).sum().float()}

    def starts_fresh(self, key: str) -> bool:
        new = (".residual.", ".attn.rel_pos_", "backbone.merge.")
        return super().starts_fresh(key) or any(piece in key for piece in new)

    def may_be_left_out(self, key: str) -> bool:
        return key.startswith(("backbone.cls_token", "backbone.storage_tokens", "backbone.pos_embed", "backbone.norm."))

    def sample_errors(self) -> tuple[Tensor, Tensor] | None:
        return self.criterion.last_per_sample

    def compile_encoder(self, **options: Any) -> None:
        """Compile the backbone alone. The decoder's work depends on the trimap, and each trimap would be compiled."""
        self.backbone.compile(**options)

    def _check_sizes(self, image: Tensor, trimap: Tensor) -> None:
        if image.shape[-2:] != trimap.shape[-2:]:
            (height, width), (trimap_height, trimap_width) = image.shape[-2:], trimap.shape[-2:]
            raise ValueError(
                f"{type(self).__name__}: image is {width} x {height}, trimap {trimap_width} x {trimap_height}"
            )

    def _inputs(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Normalised RGB and the trimap's channels, zero-padded: (B, 4 or 6, H', W'), in place to save a copy."""
        height, width = image.shape[-2:]
        multiple = self.size_divisibility
        chans = 3 + TRIMAP_CHANS[self.trimap_input]
        inputs = image.new_zeros(len(image), chans, height + -height % multiple, width + -width % multiple)
        inputs[:, :3, :height, :width] = image
        inputs[:, :3, :height, :width].sub_(self.pixel_mean).div_(self.pixel_std)
        inputs[:, 3:, :height, :width] = encode_trimap(trimap, self.trimap_input)
        return inputs

    def _features(self, pixels: Tensor, needed: Tensor | None, scale: int) -> Tensor:
        """Features (B, C, H / p, W / p) of the pixels (B, 4 or 6, H, W), or of the pixels reduced by `scale`.

        Args:
            needed: (B, 1, H / p, W / p) bool, the features that will be read; None for all.
        """
        if scale == 1:
            return self.backbone(pixels, needed=None if needed is None else needed[:, 0])
        patch = self.backbone.patch_size
        grid = [side // patch for side in pixels.shape[-2:]]
        size = [patch * -(-side // scale) for side in grid]  # whole patches, so that the grids cover the same image
        image = F.interpolate(pixels[:, :3], size=size, mode="bilinear", antialias=True)
        small = torch.cat([image, resize_trimap_channels(pixels[:, 3:], size)], dim=1)
        return F.interpolate(self.backbone(small), size=grid, mode="bilinear")


def check_divisibility(name: str, size_divisibility: int, patch_size: int) -> None:
    """Refuse a padding that is not a multiple of the patch size of system `name`."""
    if size_divisibility > LARGEST_DIVISIBILITY:
        raise InputError(f"{name}: size_divisibility must be at most {LARGEST_DIVISIBILITY}, got {size_divisibility}")
    if size_divisibility < 1 or size_divisibility % patch_size:
        raise InputError(
            f"{name}: size_divisibility must be a multiple of backbone.patch_size {patch_size}, got {size_divisibility}"
        )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the bottom and right of a (B, C, H, W) batch until `multiple` divides H and W. No copy if it does."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, padding) if any(padding) else x
