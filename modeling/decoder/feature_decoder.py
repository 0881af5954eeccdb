"""Decoders from a ViT's patch features to alpha: nikhiliit/Dinov3_matting's, and one that also reads pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.activation_checkpointing import checkpointed
from runtime.errors import InputError

PATCH_SIZE = 16  # two doublings enlarge features to a quarter; the stem's skips or interpolation do the rest
HEAD_DIM = 32
FINE_HEAD_DIM = 16


class FeatureDecoder(nn.Module):
    """Decoder from patch features, each doubled twice, to alpha at full resolution.

    With one map and without a stem this is the published decoder. Its details end at a quarter of the resolution, from
    which alpha is interpolated. Tensors have the published names.

    With a stem, three convolutions over the pixels give maps at full, half and quarter resolution. They are joined with
    the features, so alpha is computed at full resolution.

    Args:
        in_chans: number of channels of one map of features.
        num_maps: number of maps, of the same size, that are read together.
        dims: channels after the projection, and after the first and the second block.
        detail_stem: channels of the stem at full, half and quarter resolution; None for no stem.
        trimap_input: whether the stem reads the trimap as a fourth channel, of 0, 0.5 and 1.
        boundary_refinement: whether three convolutions refine alpha, see BoundaryRefinement.
        use_act_checkpoint: whether blocks are recomputed in the backward pass: less memory, more time.

    Attributes:
        img_chans: number of channels of the pixels that it reads, 0 for none.
        reach: distance in pixels beyond which a pixel has no effect on another's alpha.
        band_pixels: number of pixels that a prediction decodes at once.

    Raises:
        InputError: the settings contradict each other.
    """

    reach = 112  # 92 pixels by counting, and up to 15 within a patch, rounded up to whole patches
    band_pixels = 2**22  # larger inputs, all pixels of a batch together, are decoded in bands

    def __init__(
        self,
        in_chans: int = 384,
        num_maps: int = 1,
        dims: Sequence[int] = (256, 128, 64),
        detail_stem: Sequence[int] | None = None,
        trimap_input: bool = False,
        boundary_refinement: bool = False,
        use_act_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if len(dims) != 3 or min(dims) < 1 or num_maps < 1:
            raise InputError(
                f"FeatureDecoder: expected three dims and one map or more, got {list(dims)} and {num_maps}"
            )
        if detail_stem is not None and (len(detail_stem) != 3 or min(detail_stem) < 1):
            raise InputError(
                f"FeatureDecoder: detail_stem must be three numbers of channels, at full, half and quarter resolution, "
                f"or null; got {list(detail_stem)}"
            )
        if trimap_input and detail_stem is None:
            raise InputError("FeatureDecoder: trimap_input is a channel of the stem; set detail_stem too")
        self.in_chans, self.num_maps, self.dims = in_chans, num_maps, tuple(dims)
        self.img_chans = 0 if detail_stem is None else 3 + trimap_input
        self.trimap_input, self.use_act_checkpoint = trimap_input, use_act_checkpoint
        self.stem_dims = tuple(detail_stem or (0, 0, 0))
        last = dims[2]
        self.input_proj = nn.Conv2d(num_maps * in_chans, dims[0], 1)
        inputs, outputs = (dims[0], dims[1], last + self.stem_dims[2]), (dims[1], last, last)
        self.decoder_blocks = nn.ModuleList(ConvBlock(i, o, 2) for i, o in zip(inputs, outputs, strict=True))
        self.upsample_blocks = nn.ModuleList(nn.ConvTranspose2d(d, d, 4, stride=2, padding=1) for d in dims[1:])
        head, head_dim = last, HEAD_DIM
        if detail_stem is not None:
            full, half, _ = self.stem_dims
            self.stem = DetailStem(self.img_chans, self.stem_dims)
            self.half_block = ConvBlock(last + half, 2 * full, 1)  # few channels, as they cost most at full resolution
            head, head_dim = 3 * full, FINE_HEAD_DIM
        self.final_conv = nn.Sequential(
            nn.Conv2d(head, head_dim, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(head_dim, 1, 1), nn.Sigmoid()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.boundary_refiner = BoundaryRefinement() if boundary_refinement else None  # with PyTorch's initialisation

    @property
    def has_stem(self) -> bool:
        """Return whether the decoder reads the pixels."""
        return self.img_chans > 0

    @property
    def peak_floats(self) -> float:
        """Floats per pixel at the peak of a prediction, as measured (docs/systems.md)."""
        quarter = 4 * (self.dims[2] + self.stem_dims[2]) / 16
        if not self.has_stem:
            return quarter + 2 + 96 * (self.boundary_refiner is not None)
        return quarter + 9 * self.stem_dims[0] + FINE_HEAD_DIM + (self.dims[2] + 2 * self.stem_dims[1]) / 2

    def check_patch_size(self, patch_size: int) -> None:
        """Refuse features of patches of another size than 16 pixels."""
        if patch_size != PATCH_SIZE:
            raise InputError(f"FeatureDecoder: expected features of patches of {PATCH_SIZE} pixels, got {patch_size}")

    def forward(self, features: Tensor, pixels: Tensor, unknown: Tensor | None = None) -> Tensor:
        """Alpha (B, 1, H, W) in [0, 1].

        Args:
            features: (B, num_maps * in_chans, h, w), the concatenated maps.
            pixels: (B, 3 or `img_chans`, H, W), 16 h x 16 w pixels with a stem. Without a stem only their size is read,
                and any size is accepted.
            unknown: ignored; alpha is computed everywhere.
        """
        x = self.input_proj(features)  # (B, dims[0], h, w)
        x = F.relu(self.upsample_blocks[0](self._run(self.decoder_blocks[0], x)))  # at an eighth
        x = F.relu(self.upsample_blocks[1](self._run(self.decoder_blocks[1], x)))  # at a quarter
        if self.has_stem:
            alpha = self._at_full_resolution(x, pixels)
        else:
            alpha = self.final_conv(self._run(self.decoder_blocks[2], x))
            if alpha.shape[-2:] != pixels.shape[-2:]:  # after the sigmoid, as published, which changes the result
                alpha = F.interpolate(alpha, size=pixels.shape[-2:], mode="bilinear")
        return alpha if self.boundary_refiner is None else self.boundary_refiner(alpha)

    def _at_full_resolution(self, x: Tensor, pixels: Tensor) -> Tensor:
        full, half, quarter = self.stem(pixels, self._run)
        x = self._run(self.decoder_blocks[2], torch.cat([x, quarter], dim=1))
        x = self._run(self.half_block, torch.cat([_doubled(x), half], dim=1))
        return self._run(self.final_conv, torch.cat([_doubled(x), full], dim=1))

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        return checkpointed(block, x) if self.use_act_checkpoint and self.training else block(x)


class DetailStem(nn.Module):
    """Three convolutions over the pixels, at full, half and quarter resolution.

    Args:
        in_chans: number of channels of the pixels.
        dims: channels at each resolution.
    """

    def __init__(self, in_chans: int, dims: Sequence[int]) -> None:
        super().__init__()
        widths, strides = (in_chans, *dims[:2]), (1, 2, 2)
        self.convs = nn.ModuleList(
            ConvBlock(i, o, 1, stride) for i, o, stride in zip(widths, dims, strides, strict=True)
        )

    def forward(self, pixels: Tensor, run=lambda block, x: block(x)) -> list[Tensor]:
        """Maps of (B, dims[i], H / 2^i, W / 2^i).

        Args:
            run: function that calls a block.
        """
        maps = [pixels]
        for conv in self.convs:
            maps.append(run(conv, maps[-1]))
        return maps[1:]


class ConvBlock(nn.Module):
    """3 x 3 convolutions, each with BatchNorm and ReLU; the first may halve the size."""

    def __init__(self, in_chans: int, out_chans: int, num_convs: int, stride: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(num_convs):
            chans, step = (out_chans, 1) if index else (in_chans, stride)
            layers += [nn.Conv2d(chans, out_chans, 3, stride=step, padding=1), nn.BatchNorm2d(out_chans)]
            layers.append(nn.ReLU(inplace=True))
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, out_chans, H / stride, W / stride)."""
        return self.conv_block(x)


class BoundaryRefinement(nn.Module):
    """Alpha plus a learned multiple of the output of three convolutions of 32 channels, clamped to [0, 1]."""

    def __init__(self, chans: int = 32) -> None:
        super().__init__()
        self.boundary_conv = nn.Sequential(
            nn.Conv2d(1, chans, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(chans, chans, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(chans, 1, 3, padding=1),
        )
        self.sharpening_weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, alpha: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> the same."""
        return (alpha + self.sharpening_weight * self.boundary_conv(alpha)).clamp(0, 1)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")
