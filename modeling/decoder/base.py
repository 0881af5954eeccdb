"""Decoder: the base class of ViTMatte's decoders, from features and the full-resolution input to alpha."""

from torch import Tensor, nn


class Decoder(nn.Module):
    """Base class of decoders.

    Attributes:
        img_chans: number of channels of the full-resolution input: RGB, trimap, and any prior.
        band_pixels: largest number of pixels, of a batch together, that is decoded without bands.
        band_floats: floats per pixel of a band at its peak.
    """

    img_chans: int
    band_pixels: int
    band_floats: float

    def forward(self, features: Tensor, images: Tensor, unknown: Tensor | None = None) -> Tensor:
        """Map features (B, C, h, w) and images (B, img_chans, H, W) to alpha (B, 1, H, W) in [0, 1].

        Args:
            unknown: (B, 1, H, W) bool, the pixels whose alpha will be read; None for all.
        """
        raise NotImplementedError

    def check_patch_size(self, patch_size: int) -> None:
        """Refuse features of patches whose size this decoder cannot restore to that of the image.

        Raises:
            InputError: the patch size does not fit; the message states the decoder's requirement.
        """

    def needed_features(self, unknown: Tensor) -> Tensor:
        """Features on which alpha at the `unknown` pixels depends: bool (B, 1, H, W) -> (B, 1, h, w)."""
        raise NotImplementedError
