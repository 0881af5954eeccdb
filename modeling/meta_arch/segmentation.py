"""Segmentation of persons or any other classes: maps of several blocks of a ViT, and a small head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.images.classes import IGNORED, Classes
from modeling.backbone import Encoder
from modeling.decoder.segmentation_head import SegmentationHead
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint
from modeling.meta_arch.normalised import NormalisedSystem
from runtime.errors import InputError

CLASS_FLOATS = 3  # per pixel and class: logits, those of the padded image, probabilities


@dataclass(frozen=True)
class Encoded:
    """Maps of an encoded batch, and the position of their grid on the image.

    Attributes:
        maps: (B, C, h, w) each, the input of the head.
        padded: height and width in pixels of the grid.
        corner: top and left of the image in the grid.
        seen: size of the encoder's image.
        size: size of the original image.
    """

    maps: Sequence[Tensor]
    padded: tuple[int, int]
    corner: tuple[int, int]
    seen: tuple[int, int]
    size: tuple[int, int]


class Segmentation(NormalisedSystem):
    """Classes of pixels from the features of a ViT, like facebookresearch/dinov2's evaluation by segmentation.

    Images of any size are padded on all sides to whole patches, with the mean of the pixels. Logits are resized
    bilinearly to the padded size, cropped, resized to the original size, and then converted to probabilities.

    Args:
        backbone: encoder with maps of several blocks.
        classes: names, colours and label values, see `data.images.classes.Classes`.
        out_layers: blocks whose normalised maps are computed.
        head_in_index: positions in `out_layers` of the maps that the head reads.
        pixel_mean, pixel_std: RGB statistics on the scale [0, 1] of the backbone's pretraining.
        max_side: longer side in pixels to which larger images are reduced in eval mode; None for no reduction. Training
            crops are not reduced.
        dropout, head_norm, head_chans: see SegmentationHead.
    """

    inputs = ("image",)
    outputs = ("mask",)
    targets = ("mask",)
    depends_on_padding = True  # the image is in the middle of its padding

    def __init__(
        self,
        *,
        backbone: Encoder,
        classes: Sequence[Mapping[str, Any]],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        out_layers: Sequence[int] = (8, 9, 10, 11),
        head_in_index: Sequence[int] = (0, 1, 2, 3),
        max_side: int | None = None,
        dropout: float = 0.0,
        head_norm: bool = True,
        head_chans: int | None = None,
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        if backbone.in_chans != 3:
            raise InputError(f"Segmentation: backbone.in_chans must be 3 (RGB), got {backbone.in_chans}")
        outside = [index for index in head_in_index if not 0 <= index < len(out_layers)]
        if outside or not head_in_index:
            raise InputError(
                f"Segmentation: expected head_in_index of 0 to {len(out_layers) - 1}, places in out_layers "
                f"{list(out_layers)}, got {list(head_in_index)}"
            )
        if max_side is not None and max_side < backbone.patch_size:
            raise InputError(f"Segmentation: max_side must be at least {backbone.patch_size}, got {max_side}")
        self._classes = Classes(classes)
        self.num_classes = len(self._classes)
        self.size_divisibility = backbone.patch_size
        self.out_layers, self.head_in_index = list(out_layers), list(head_in_index)
        self.max_side = max_side
        self.backbone = backbone
        chans = backbone.embed_dim * len(self.head_in_index)
        self.decoder = SegmentationHead(chans, self.num_classes, dropout, head_norm, head_chans)
        self._confusion: Tensor | None = None

    @property
    def classes(self) -> Classes:
        return self._classes

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Encoded:
        image = inputs["image"]
        size = tuple(image.shape[-2:])
        seen = self._seen(size)
        if seen != size:
            image = F.interpolate(image, size=seen, mode="bilinear", antialias=True)
        patch = self.backbone.patch_size
        rest = [-side % patch for side in seen]
        top, left = (side // 2 for side in rest)
        pixels = F.pad((image - self.pixel_mean) / self.pixel_std, (left, rest[1] - left, top, rest[0] - top))
        maps = self.backbone.features(pixels, self.out_layers)
        padded = tuple(pixels.shape[-2:])
        return Encoded([maps[index] for index in self.head_in_index], padded, (top, left), seen, size)

    def logits(self, state: Encoded) -> Tensor:
        """(B, K, H, W) float32 at the picture's own size."""
        logits = F.interpolate(self.decoder(state.maps).float(), size=state.padded, mode="bilinear")
        (top, left), (height, width) = state.corner, state.seen
        logits = logits[..., top : top + height, left : left + width]
        return logits if state.seen == state.size else F.interpolate(logits, size=state.size, mode="bilinear")

    def decode(self, state: Encoded) -> dict[str, Tensor]:
        return {"mask": self.logits(state).softmax(dim=1)}

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"pixels": (batch["mask"] != IGNORED).sum().float()}

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = batch["mask"].long()
        logits = self.logits(self.encode(batch))
        self._count(logits.detach().argmax(dim=1), mask)
        nats = F.cross_entropy(logits, mask, ignore_index=IGNORED, reduction="sum")
        return {"cross_entropy_loss": nats / counts["pixels"].clamp(min=1)}

    def training_confusion(self) -> Tensor | None:
        confusion, self._confusion = self._confusion, None
        return confusion

    def footprint(self) -> Footprint:
        held = FLOAT * (PICTURE_FLOATS + CLASS_FLOATS * self.num_classes)
        encoder = FLOAT * (self.backbone.peak_floats + len(self.out_layers) * self._map_floats)
        if self.max_side is None:
            return Footprint(picture=held, encoder=encoder, token_pixels=self.backbone.patch_size**2)
        return Footprint(picture=held, band=encoder, band_pixels=self.max_side**2)

    @property
    def _map_floats(self) -> float:
        return self.backbone.embed_dim / self.backbone.patch_size**2

    def mask_cell(self, height: int, width: int) -> float:
        return self.backbone.patch_size * max(height, width) / max(self._seen((height, width)))

    def _seen(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.training or self.max_side is None or max(size) <= self.max_side:
            return size
        factor = self.max_side / max(size)
        height, width = (max(1, round(side * factor)) for side in size)
        return height, width

    def _count(self, predicted: Tensor, mask: Tensor) -> None:
        """Add a batch to the confusion matrix (K, K), truth in rows."""
        counted = mask != IGNORED
        pairs = mask[counted] * self.num_classes + predicted[counted]
        matrix = torch.bincount(pairs, minlength=self.num_classes**2).view(self.num_classes, -1)
        self._confusion = matrix if self._confusion is None else self._confusion + matrix
