"""The decoder in horizontal bands: what it keeps does not grow with the image, and nothing is approximated."""

from collections.abc import Callable

import torch
from torch import Tensor

HALO = 3  # rows of features above and below a band that its pixels depend on

Decode = Callable[[Tensor, Tensor, Tensor], Tensor]


def decode_in_bands(
    decode: Decode, features: Tensor, images: Tensor, unknown: Tensor, band_pixels: int, halo: int = HALO
) -> Tensor:
    """Alpha where `unknown` is true, 0 elsewhere: (B, 1, H, W) float32, as `decode` computes it of the whole.

    Each level of a decoder with d fusions reads one pixel further, and halving the masks between the levels rounds
    outwards: in all 3 * 2^d - 2 pixels of full resolution, less than three features. What a band's own border makes
    wrong lies beyond and is not asked for.

    Args:
        decode: maps features, images and unknown pixels of a band to its alpha.
        features, images, unknown: as in DetailCapture.forward.
        band_pixels: of full resolution in a band, a batch's together; at least one row of features is taken.
        halo: rows of features around a band that its pixels depend on.
    """
    scale = images.shape[-2] // features.shape[-2]
    step = max(1, band_pixels // (len(images) * images.shape[-1] * scale))
    alpha = torch.zeros(unknown.shape, device=images.device)
    for start in range(0, features.shape[-2], step):
        core = slice(start * scale, (start + step) * scale)
        if not unknown[..., core, :].any():
            continue
        top, bottom = max(start - halo, 0), start + step + halo
        pixels = slice(top * scale, bottom * scale)
        inner = slice(core.start - pixels.start, core.stop - pixels.start)
        asked = torch.zeros_like(unknown[..., pixels, :])
        asked[..., inner, :] = unknown[..., core, :]
        band = decode(features[..., top:bottom, :], images[..., pixels, :], asked)
        alpha[..., core, :] = band[..., inner, :]
    return alpha
