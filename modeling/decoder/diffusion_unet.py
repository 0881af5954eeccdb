"""DiffMatte's decoder: a small U-Net from a noisy alpha, the image and the encoder's features to a clean alpha.

Hu et al., "Diffusion for Natural Image Matting", ECCV 2024. Parameter names are those of the published checkpoints
(YihanHu-2022/DiffMatte).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.decoder.detail_capture import MattingHead, conv_norm
from modeling.decoder.padded_constant import PaddedConstant
from modeling.decoder.sparse.diffusion_steps import SparseSteps
from modeling.decoder.sparse.folding import fold_norm
from modeling.decoder.sparse.receptive_field import ReceptiveField

Steps = Callable[[Tensor, float], Tensor]
SPARSE_PIXELS = 256 * 256  # pixels of a batch below which preparing sparse steps costs more than it saves
LONGEST_PERIOD = 10_000  # ratio of the periods of the sinusoids that encode the time


class _TimedBlock(nn.Module):
    """A convolution that changes the size, a time embedding added to its channels, a second convolution, and a
    shortcut.

    The time is added between the convolutions: y = ReLU(norm(conv1(x))) + ReLU(linear(time)), then
    ReLU(norm(conv2(y)) + shortcut(x)).
    """

    emb_layers: nn.Sequential
    conv1: nn.Module
    bn1: nn.BatchNorm2d
    conv2: nn.Conv2d
    bn2: nn.BatchNorm2d

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift = self.emb_layers(time)[:, :, None, None].to(x.dtype)
        return F.relu(self._joined(x, F.relu(self._resized(x), inplace=True) + shift))

    def still(self, x: Tensor) -> Tensor:
        """Map before its last ReLU, without the time."""
        return self._joined(x, F.relu(self._resized(x), inplace=True))

    def _joined(self, x: Tensor, y: Tensor) -> Tensor:
        return conv_norm(y, self.conv2, self.bn2) + self._shortcut(x)

    def _resized(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _shortcut(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class DownBlock(_TimedBlock):
    """Halve the size: (B, in_chans, H, W) -> (B, out_chans, H / 2, W / 2)."""

    def __init__(self, in_chans: int, out_chans: int, time_chans: int) -> None:
        super().__init__()
        self.emb_layers = nn.Sequential(nn.Linear(time_chans, out_chans), nn.ReLU())
        self.conv1 = nn.Conv2d(in_chans, out_chans, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.downsample = nn.ModuleDict({"op": nn.Conv2d(in_chans, out_chans, 3, stride=2, padding=1, bias=False)})

    def _resized(self, x: Tensor) -> Tensor:
        return conv_norm(x, self.conv1, self.bn1)

    def _shortcut(self, x: Tensor) -> Tensor:
        return self.downsample["op"](x)


class UpBlock(_TimedBlock):
    """Double the size: (B, in_chans, H, W) -> (B, out_chans, 2 H, 2 W)."""

    def __init__(self, in_chans: int, out_chans: int, time_chans: int) -> None:
        super().__init__()
        self.emb_layers = nn.Sequential(nn.Linear(time_chans, out_chans), nn.ReLU())
        self.conv1 = nn.ConvTranspose2d(in_chans, out_chans, 4, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.upsample = nn.ModuleDict({"conv": nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False)})

    def _resized(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        return self.upsample["conv"](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


class DiffusionUNet(nn.Module):
    """Raw map r of a noisy alpha. The clean alpha on the scale [-1, 1] is 2 sigmoid(r) - 1.

    Args:
        model_channels: width of the last block.
        emb_channels: number of channels of the time embedding, even.
        downsample_in: input channels of each halving block (first those of guide and noisy alpha), then the output of
            the last.
        upsample_in: channels of the deep maps: those of the encoder's features, then the output of each doubling block.
            From the second on, a doubling block also reads the halving blocks' map of its size.
        time_scale: factor on the time in [0, 1] before it is encoded; 1 in the published model, whose sinusoids hardly
            change.

    Attributes:
        in_chans: number of channels of guide and noisy alpha together.
        patch_size: side of a feature in pixels, 2 to the number of doubling blocks.
        sparse_floats, dense_floats: floats per pixel of full resolution at the peak of a step if all pixels are needed,
            in blocks and as a whole.
        static_floats: floats per pixel that whole steps keep between them.
        decoding: "sparse" or "dense" steps if only some pixels are needed; "auto" for sparse steps on a CPU unless the
            images are small.
    """

    decoding = "auto"

    def __init__(
        self,
        model_channels: int = 32,
        emb_channels: int = 32,
        downsample_in: Sequence[int] = (7, 32, 64, 128),
        upsample_in: Sequence[int] = (384, 256, 128, 64, 32),
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        down, up = list(downsample_in), list(upsample_in)
        if len(up) != len(down) + 1 or up[-1] != model_channels:
            raise ValueError(
                "DiffusionUNet: upsample_in must have one width more than downsample_in and end in model_channels "
                f"{model_channels}, got {up} and {down}"
            )
        if emb_channels < 2 or emb_channels % 2:
            raise ValueError(f"DiffusionUNet: emb_channels must be even, got {emb_channels}")
        self.in_chans = down[0]
        self.features_chans = up[0]
        self.emb_channels = emb_channels
        self.time_scale = time_scale
        self.patch_size = 2 ** len(down)
        self.down_blks = nn.ModuleList(DownBlock(narrow, wide, emb_channels) for narrow, wide in pairwise(down))
        self.time_embed = nn.Sequential(
            nn.Linear(emb_channels, emb_channels), nn.ReLU(), nn.Linear(emb_channels, emb_channels)
        )
        self.mid_blk = UpBlock(up[0], up[1], emb_channels)
        skips = reversed(down[1:])  # maps of 1/2, 1/4, ... read coarse to fine
        self.up_blks = nn.ModuleList(
            UpBlock(deep + skip, wide, emb_channels) for (deep, wide), skip in zip(pairwise(up[1:]), skips, strict=True)
        )
        self.matting_head = MattingHead(up[-1])
        joined = (up[-2] + down[1]) * (1 + 1 / 4)  # the enlarged map that the last block reads, and the map before it
        self.sparse_floats = down[0] + up[-1] + joined
        self.dense_floats = down[0] + 3 * up[-1] + 2.5 * joined  # the joined map, its enlargement and oneDNN's copy
        self.static_floats = up[1] / 4 ** (len(down) - 1)

    def forward(self, features: Tensor, guide: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Map a noisy alpha to the raw map (B, 1, H, W).

        Args:
            features: (B, C, H / p, W / p) of the encoder, for patches of p = `patch_size` pixels.
            guide: (B, in_chans - 1, H, W), image and trimap as the decoder's input.
            x_t: (B, 1, H, W), the noisy alpha, divided by its standard deviation if the process requires it.
            time: (B,) in [0, 1].
        """
        time = self.embed_time(time)
        return self._decode(self.mid_blk(features, time), guide, x_t, time)

    def prepared(
        self, features: Tensor, guide: Tensor, unknown: Tensor | None = None, like: Steps | None = None
    ) -> Steps:
        """Decoder of fixed images in eval mode, without gradients. Values that no step changes are computed once, here.

        Args:
            features, guide: as in `forward`.
            unknown: (B, 1, H, W) bool, the pixels that are needed; None for all.
            like: an earlier result of this method for another image or tile, with the same weights. Sharing its parts
                that do not depend on the image saves time and memory.

        Returns:
            A function of the noisy alpha x_t, as in `forward`, and a time in [0, 1]. It returns the raw map, 0 at
            pixels that are not needed. It has to be called in the same inference mode as this method.
        """
        with torch.no_grad():
            if unknown is None or not self._is_sparse(unknown):
                return _DenseSteps(self, features, guide, unknown)
            with torch.autocast(guide.device.type, enabled=False):
                return SparseSteps(self, features, guide, unknown, like.shared if like else None)

    def needed_features(self, unknown: Tensor) -> Tensor:
        """Features on which the raw map at the `unknown` pixels depends: bool (B, 1, H, W) -> (B, 1, H / p, W / p).

        Other features may have any finite value; `prepared` with the same `unknown` gives the same result.
        """
        return ReceptiveField.of(unknown[:, 0], len(self.down_blks) + 1).features[:, None]

    def _is_sparse(self, unknown: Tensor) -> bool:
        if self.decoding != "auto":
            return self.decoding == "sparse"
        return unknown.device.type == "cpu" and unknown.numel() >= SPARSE_PIXELS

    def _decode(self, deep: Tensor, guide: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Raw map from the map of the middle block; `time` (B, emb_channels) is embedded."""
        x = torch.cat([guide, x_t], dim=1).contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.down_blks:
            x = block(x, time)
            skips.append(x)
        for block in self.up_blks:
            deep = block(torch.cat([deep, skips.pop().to(deep.dtype)], dim=1), time)
        return self.matting_head(deep).float()

    def embed_time(self, time: Tensor) -> Tensor:
        """(B,) -> (B, emb_channels): cosines and sines, followed by two linear layers."""
        return self.time_embed(sinusoids(self.time_scale * time, self.emb_channels))


class _DenseSteps:
    """Decoder of fixed images at all pixels. The convolutions of the middle block, which no step changes, run once."""

    shared = None  # see SparseSteps

    def __init__(self, decoder: DiffusionUNet, features: Tensor, guide: Tensor, unknown: Tensor | None) -> None:
        self._decoder, self._guide, self._unknown = decoder, guide, unknown
        block = decoder.mid_blk
        self._still = block.still(features)
        self._constant = PaddedConstant(fold_norm(block.conv2, block.bn2)[0], tuple(self._still.shape[-2:]))

    @torch.no_grad()
    def __call__(self, x_t: Tensor, time: float) -> Tensor:
        embedded = self._decoder.embed_time(torch.tensor([time], device=x_t.device))
        shift = self._constant(self._decoder.mid_blk.emb_layers(embedded)[0])
        shift = shift[self._constant.kinds].permute(2, 0, 1).to(self._still.dtype)
        raw = self._decoder._decode(F.relu(self._still + shift), self._guide, x_t, embedded)
        return raw if self._unknown is None else raw.masked_fill(~self._unknown, 0)


def sinusoids(time: Tensor, channels: int) -> Tensor:
    """(B,) -> (B, channels): cosines, then sines, of periods from 2 pi to `LONGEST_PERIOD` times 2 pi."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=time.device) * (-math.log(LONGEST_PERIOD) / half))
    angles = time.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
