"""ViTMatte's detail capture module: a light convolution stream fused with the transformer's features.

Yao et al., "ViTMatte: Boosting Image Matting with Pretrained Plain Vision Transformers", 2023. Parameter names are
those of the published checkpoints (hustvl/ViTMatte).
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.activation_checkpointing import checkpointed
from modeling.decoder.base import Decoder
from modeling.decoder.gate import closed_to_candidates, gated_alpha
from modeling.decoder.sparse import decode as sparse
from modeling.decoder.sparse.bands import decode_in_bands
from modeling.decoder.sparse.costs import costs_on
from modeling.decoder.sparse.folding import fold_norm
from modeling.decoder.sparse.receptive_field import ReceptiveField
from runtime.errors import InputError


class ConvNormReLU(nn.Module):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_chans: int, out_chans: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_chans)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(conv_norm(x, self.conv, self.bn), inplace=True)


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Convolution and batch norm. In eval mode they are one convolution, which saves a pass over large maps."""
    if norm.training:
        return norm(conv(x))
    weight, bias = fold_norm(conv, norm)
    return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), conv.stride, conv.padding)


class ConvStream(nn.Module):
    """Details at every scale: (B, C, H, W) -> the input itself, and maps of 1/2, 1/4 and 1/8 of its size."""

    def __init__(self, in_chans: int, out_chans: Sequence[int]) -> None:
        super().__init__()
        widths = [in_chans, *out_chans]
        self.convs = nn.ModuleList(ConvNormReLU(narrow, wide, stride=2) for narrow, wide in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for conv in self.convs:
            maps.append(conv(maps[-1]))
        return maps


class FusionBlock(nn.Module):
    """Double the size of the deep features and fuse them with the details of that size."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.conv = ConvNormReLU(in_chans, out_chans)

    def forward(self, x: Tensor, details: Tensor) -> Tensor:
        if self.conv.bn.training and x.device.type == "cpu":
            return F.relu(self.conv.bn(self._convolved_apart(x, details)), inplace=True)
        return self.conv(self._joined(x, details))  # the enlarged map is freed before the convolution's map is made

    def _joined(self, x: Tensor, details: Tensor) -> Tensor:
        return torch.cat([details, _enlarged(x).to(details.dtype)], dim=1)

    def _convolved_apart(self, x: Tensor, details: Tensor) -> Tensor:
        """Convolution of the joined map as the sum of the convolutions of its parts.

        Joining copies both maps, and so does its backward pass, because a slice of a channels-last gradient is not
        contiguous. At full resolution the details are the input, which needs no gradient.
        """
        of_details, of_enlarged = self.conv.conv.weight.split([details.shape[1], x.shape[1]], dim=1)
        out = F.conv2d(_enlarged(x), of_enlarged, padding=1)
        return out.add_(F.conv2d(details, of_details, padding=1))


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class MattingHead(nn.Module):
    """Two convolutions to the logits of alpha and, if there are other estimates of alpha, of a gate.

    Args:
        in_chans, mid_chans: widths before and between the convolutions.
        num_candidates: number of other estimates for the gate, see `gated_alpha`.
    """

    def __init__(self, in_chans: int, mid_chans: int = 16, num_candidates: int = 0) -> None:
        super().__init__()
        out_chans = 1 + (1 + num_candidates if num_candidates else 0)
        self.matting_convs = nn.Sequential(
            nn.Conv2d(in_chans, mid_chans, 3, padding=1),
            nn.BatchNorm2d(mid_chans),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_chans, out_chans, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, relu, last = self.matting_convs
        return last(relu(conv_norm(x, conv, norm)))


class DetailCapture(Decoder):
    """Decoder of alpha from features and the full-resolution input.

    Each fusion block doubles the size of the features, so n blocks need features at 1 / 2^n: four blocks for patches of
    16 pixels, three for patches of 8.

    Args:
        in_chans: number of channels of the backbone's features.
        img_chans: number of channels of the full-resolution input: RGB, trimap, and any prior (see ColourPrior).
        convstream_out: widths of the detail maps at 1/2, 1/4, 1/8, ...; one less than there are fusion blocks.
        fusion_out: widths after each fusion, coarse to fine.
        use_act_checkpoint: whether, in training, the backward pass recomputes the fusions and the head instead of
            keeping their maps. The gradients are the same and need less memory. This has no effect in a compiled model,
            where torch.compile decides.
        head_chans: width of the matting head.
        candidates: channels of the input that are estimates of alpha (see ClosedFormPrior). A learned gate of the head
            mixes them with its own alpha. None for the published decoder.
        candidate_drop: share of the training samples whose gate ignores the candidates.

    Attributes:
        band_pixels: largest number of pixels, of a batch together, that is decoded without bands.
        decoding: "sparse" or "dense" decoding if only some pixels are needed; "auto" for the one that is faster on the
            device (see sparse/costs.py).
    """

    band_pixels = 2048 * 2048  # with maps of some 50 floats per pixel, 0.8 GiB for ViT-S
    decoding = "auto"

    def __init__(
        self,
        in_chans: int = 384,
        img_chans: int = 4,
        convstream_out: Sequence[int] = (48, 96, 192),
        fusion_out: Sequence[int] = (256, 128, 64, 32),
        use_act_checkpoint: bool = False,
        head_chans: int = 16,
        candidates: Sequence[int] = (),
        candidate_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if any(not 0 <= channel < img_chans for channel in candidates):
            raise ValueError(f"DetailCapture: candidates must be channels 0 to {img_chans - 1}, got {list(candidates)}")
        if len(fusion_out) != len(convstream_out) + 1:
            raise ValueError(
                f"DetailCapture: fusion_out needs one width more than convstream_out, got {len(fusion_out)} and "
                f"{len(convstream_out)}"
            )
        self.img_chans = img_chans
        self.use_act_checkpoint = use_act_checkpoint
        self.convstream = ConvStream(img_chans, convstream_out)
        detail_chans = [img_chans, *convstream_out]
        deep_chans = [in_chans, *fusion_out]
        self.fusion_blks = nn.ModuleList(
            FusionBlock(deep + detail, fused)
            for deep, detail, fused in zip(deep_chans, reversed(detail_chans), fusion_out, strict=False)
        )
        self.candidates = list(candidates)
        self.candidate_drop = candidate_drop
        self.matting_head = MattingHead(fusion_out[-1], head_chans, len(self.candidates))
        details_and_fused = zip(convstream_out, reversed(fusion_out[:-1]), strict=True)  # at 1/2, 1/4, ...
        self.band_floats = img_chans + sum(
            (detail + fused) / 4**level for level, (detail, fused) in enumerate(details_and_fused, 1)
        )

    def forward(self, features: Tensor, images: Tensor, unknown: Tensor | None = None) -> Tensor:
        """Map features and images to alpha (B, 1, H, W) in [0, 1].

        Args:
            features: (B, in_chans, H / 2^n, W / 2^n), with n fusion blocks.
            images: (B, img_chans, H, W).
            unknown: (B, 1, H, W) bool, the pixels whose alpha is needed; the others are then 0. At inference, without
                gradients, only the values that these pixels depend on are computed if that is cheaper (see sparse.py),
                and large images are decoded in bands (see bands.py). None for all pixels.
        """
        if unknown is None or self.training or torch.is_grad_enabled():
            return self._decode_all(features, images)
        if unknown.numel() > self.band_pixels:
            decode_band = partial(self._decode_unknown, in_bands=True)
            return decode_in_bands(decode_band, features, images, unknown, self.band_pixels)
        return self._decode_unknown(features, images, unknown)

    def check_patch_size(self, patch_size: int) -> None:
        fusions = len(self.fusion_blks)
        if patch_size < 2 or patch_size & (patch_size - 1):
            raise InputError(
                f"DetailCapture: patch size {patch_size} cannot be used with this decoder, whose fusion blocks double "
                "the size of the features; expected a power of two, such as 8 or 16"
            )
        if patch_size != 2**fusions:
            needed = patch_size.bit_length() - 1
            raise InputError(
                f"DetailCapture: patch size {patch_size} needs {needed} fusion blocks, each of which doubles the size, "
                f"got {fusions}; give decoder.fusion_out {needed} widths and decoder.convstream_out one less"
            )

    def needed_features(self, unknown: Tensor) -> Tensor:
        """Features on which alpha at the `unknown` pixels depends: bool (B, 1, H, W) -> (B, 1, h, w).

        Other features may have any finite value; `forward` with the same `unknown` returns the same alpha.
        """
        return ReceptiveField.of(unknown[:, 0], len(self.fusion_blks)).features[:, None]

    def _decode_unknown(self, features: Tensor, images: Tensor, unknown: Tensor, in_bands: bool = False) -> Tensor:
        field = ReceptiveField.of(unknown[:, 0], len(self.fusion_blks))
        if self._is_sparse(field, unknown[:, 0], in_bands):
            return sparse.decode(self, features, images, field, unknown[:, 0])
        return self._decode_all(features, images).masked_fill(~unknown, 0)

    def _is_sparse(self, field: ReceptiveField, unknown: Tensor, in_bands: bool) -> bool:
        if self.decoding != "auto":
            return self.decoding == "sparse"
        if in_bands and costs_on(unknown.device).dense_limit is not None:
            return True  # because it needs less memory
        return sparse.is_cheaper(self, field, unknown)

    def _decode_all(self, features: Tensor, images: Tensor) -> Tensor:
        # Convolutions are up to twice as fast in channels-last memory, which the features already have. Under autocast
        # they round their input. Rounding it once avoids joined maps in float32.
        device = images.device.type
        rounded = images.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else images
        details = self.convstream(rounded.contiguous(memory_format=torch.channels_last))
        use_checkpoint = self.use_act_checkpoint and self.training and not torch.compiler.is_compiling()
        call = checkpointed if use_checkpoint else _called
        for fuse in self.fusion_blks:
            features = call(fuse, features, details.pop())
        logits = call(self.matting_head, features)
        if self.candidates:
            if self.training and self.candidate_drop:
                logits = closed_to_candidates(logits, self.candidate_drop)
            return gated_alpha(logits, images[:, self.candidates], dim=1)
        return torch.sigmoid(logits.float())


def _called(module: nn.Module, *inputs: Tensor) -> Tensor:
    return module(*inputs)
