"""Foreground and background colours, transported from the known regions to every pixel, as additional input channels.

A network trained from scratch must first learn to transport the colours of the known regions and compare them with the
pixel. This is a product of image and trimap, which plain convolutions learn slowly. Normalised convolution (Knutsson
and Westin, 1993) transports colours in closed form at several scales. Projecting the pixel onto the line between the
two colours is the classical matting equation solved for alpha.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS_PER_SCALE = 3


class ColourPrior(nn.Module):
    """Projected alpha, residual and colour distance at several blur scales.

    Args:
        sigmas: standard deviations of the blurs in pixels, fine to coarse; the whole image is always the last scale.
        epsilon: known area (blurred, in [0, 1]) at which a scale has the same weight as the next coarser one.
    """

    def __init__(self, sigmas: Sequence[float] = (4, 12, 36), epsilon: float = 1e-3) -> None:
        super().__init__()
        self.sigmas = tuple(sigmas)
        self.epsilon = epsilon

    @property
    def out_chans(self) -> int:
        return CHANNELS_PER_SCALE * (len(self.sigmas) + 1)

    @torch.no_grad()
    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Return (B, out_chans, H, W) float32 for RGB (B, 3, H, W) in [0, 1] and a trimap of 0, 0.5 and 1.

        The channels of each scale, coarse to fine, are alpha projected on the line from background to foreground
        colour, clipped to [-0.5, 1.5], the distance of the colour from this line, and the distance between the two
        colours.
        """
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            regions = [(trimap == 1).float(), (trimap == 0).float()]  # foreground, background
            weighted = torch.cat([torch.cat([image * region, region], dim=1) for region in regions], dim=1)
            estimates = _normalise(weighted.mean(dim=(2, 3), keepdim=True), None, self.epsilon)
            channels = [_project(image, estimates)]
            for sigma in reversed(self.sigmas):
                estimates = _normalise(_gaussian_blur(weighted, sigma), estimates, self.epsilon)
                channels.append(_project(image, estimates))
            return torch.cat(channels, dim=1)


def _normalise(blurred: Tensor, coarser: Tensor | None, epsilon: float) -> Tensor:
    """Convert blurred (weighted colour, weight) of both regions, (B, 8, H, W), to colours, (B, 6, H, W).

    Where a region has little weight nearby, the colour of the coarser scale dominates.
    """
    colours = []
    for region in range(2):
        colour, weight = blurred[:, 4 * region : 4 * region + 3], blurred[:, 4 * region + 3 : 4 * region + 4]
        fallback = 0.0 if coarser is None else epsilon * coarser[:, 3 * region : 3 * region + 3]
        colours.append((colour + fallback) / (weight + epsilon))
    return torch.cat(colours, dim=1)


def _project(image: Tensor, colours: Tensor) -> Tensor:
    foreground, background = colours[:, :3], colours[:, 3:]
    difference = foreground - background  # (B, 3, H, W) or (B, 3, 1, 1)
    offset = image - background
    squared = difference.square().sum(dim=1, keepdim=True)
    alpha = ((offset * difference).sum(dim=1, keepdim=True) / (squared + 1e-3)).clamp(-0.5, 1.5)
    residual = (offset - alpha * difference).square().sum(dim=1, keepdim=True).sqrt()
    return torch.cat([alpha, residual, squared.sqrt().expand_as(alpha)], dim=1)


def _gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur (B, C, H, W) with zeros outside the image. Wide blurs use a reduced copy, which costs little."""
    height, width = x.shape[-2:]
    factor = max(1, int(sigma // 2))
    small = F.avg_pool2d(F.pad(x, (0, -width % factor, 0, -height % factor)), factor) if factor > 1 else x
    resampling = factor**2 / 4 if factor > 1 else 0  # variance added by averaging (1/12) and bilinear enlargement (1/6)
    taps = _gaussian_taps((sigma**2 - resampling) ** 0.5 / factor, x)
    channels = x.shape[1]
    radius = len(taps) // 2
    small = F.conv2d(small, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(radius, 0), groups=channels)
    small = F.conv2d(small, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, radius), groups=channels)
    if factor == 1:
        return small
    return F.interpolate(small, scale_factor=factor, mode="bilinear", align_corners=False)[..., :height, :width]


def _gaussian_taps(sigma: float, like: Tensor) -> Tensor:
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma).square())
    return taps / taps.sum()
