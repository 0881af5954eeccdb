"""A whole ViTMatte in traceable operations, for an exported file."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.images.trimap import FOREGROUND_FROM, UNKNOWN_FROM
from modeling.backbone import ViT
from modeling.decoder import DetailCapture
from modeling.traceable.backbone import TraceableViT
from modeling.trimap_input import encode_trimap
from runtime.errors import InputError


class TraceableViTMatte(nn.Module):
    """Alpha from image and trimap, including quantisation, normalisation, padding and fusion with the trimap.

    The decoder is dense, with the same result as sparse decoding in the unknown region.

    Args:
        model: a ViTMatte in eval mode on the CPU; its weights are shared.

    Raises:
        InputError: the backbone or decoder is of another class, or has settings that cannot be traced.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for part, expected in ((model.backbone, ViT), (model.decoder, DetailCapture)):
            if type(part) is not expected:
                raise InputError(f"cannot export a {type(part).__name__}, only a {expected.__name__}")
        if model.size_divisibility % model.backbone.patch_size:
            raise InputError(
                f"cannot export with size_divisibility {model.size_divisibility}, which the patch size "
                f"{model.backbone.patch_size} does not divide"
            )
        self.model = model
        self.backbone = TraceableViT(model.backbone)

    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] and trimap (B, 1, H, W) of 0, 0.5 and 1 -> alpha (B, 1, H, W) in [0, 1]."""
        model = self.model
        height, width = image.shape[-2:]
        levels = trimap * 255
        foreground = levels >= FOREGROUND_FROM
        unknown = (levels >= UNKNOWN_FROM) & ~foreground
        trimap = foreground.float() + 0.5 * unknown.float()
        normalised = (image - model.pixel_mean) / model.pixel_std
        inputs = self._padded(torch.cat([normalised, encode_trimap(trimap, model.trimap_input)], dim=1))
        features = self.backbone(inputs)
        if model.colour_prior is not None:
            inputs = torch.cat([inputs, self._padded(model.colour_prior(image, trimap))], dim=1)
        phas = model.decoder(features, inputs)[..., :height, :width]
        return torch.where(unknown, phas, trimap)

    def _padded(self, x: Tensor) -> Tensor:
        """Pad with zeros at the bottom and right until size_divisibility divides both sides."""
        multiple = self.model.size_divisibility
        height, width = x.shape[-2:]
        rows, columns = (height + multiple - 1) // multiple, (width + multiple - 1) // multiple
        return F.pad(x, (0, columns * multiple - width, 0, rows * multiple - height))
