"""The decoder in horizontal bands: memory does not grow with the image, and the result is exact."""

from collections.abc import Callable

import torch
from torch import Tensor

HALO = 3  # rows of features above and below a band on which its pixels depend

Decode = Callable[[Tensor, Tensor, Tensor], Tensor]


def decode_in_bands(
    decode: Decode, features: Tensor, images: Tensor, unknown: Tensor, band_pixels: int, halo: int = HALO
) -> Tensor:
    """Alpha where `unknown` is true, 0 elsewhere: (B, 1, H, W) float32, as `decode` computes it for the whole image.

    Each level of a decoder with d fusions reads one pixel further, and halving the masks between the levels rounds
    outwards. This amounts to 3 * 2^d - 2 pixels of full resolution, less than three features. Errors from the border of
    a band are therefore outside the pixels that are used.

    Args:
        decode: function from features, images and unknown pixels of a band to its alpha.
        features, images, unknown: as in DetailCapture.forward.
        band_pixels: pixels of full resolution in a band, of a batch together; at least one row of features is used.
        halo: rows of features around a band on which its pixels depend.
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
