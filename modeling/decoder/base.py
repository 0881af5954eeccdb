"""The contract of a decoder: features and the full-resolution input to alpha."""

from torch import Tensor, nn


class Decoder(nn.Module):
    """What ViTMatte asks of a decoder.

    Attributes:
        img_chans: channels of the full-resolution input: RGB, trimap, and any prior.
        band_pixels: larger inputs, a batch's pixels together, are decoded in bands of so many.
        band_floats: numbers a pixel that a band holds at its peak.
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
        """Refuse features of patches whose size this decoder cannot bring to that of the image.

        Raises:
            InputError: what this decoder needs, in one line.
        """

    def needed_features(self, unknown: Tensor) -> Tensor:
        """Which features alpha at the `unknown` pixels depends on: bool (B, 1, H, W) -> (B, 1, h, w)."""
        raise NotImplementedError
