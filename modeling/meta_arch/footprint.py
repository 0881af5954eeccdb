"""Peak memory of a prediction, estimated from a model's widths; docs/inference.md compares it with measurements."""

import math
from dataclasses import dataclass

FLOAT = 4
PICTURE_FLOATS = 15  # per pixel: image and trimap, the network's input, masks, alpha, and the decoded files
CANVAS_FLOATS = 12  # per pixel of an image in tiles: the image, its trimap, and the sums for blending the tiles
PRIOR_FLOATS = 4  # per pixel and channel of a colour prior: blurs and estimates beside the channel itself
FIXED = 150 * 2**20  # bytes that do not grow: chunks of attention and tiles, buffers of the libraries
UNKNOWN_MODEL = 1200  # bytes per pixel for a model without an estimate


@dataclass(frozen=True)
class Footprint:
    """Peak bytes in addition to the weights, as a function of the image size, if all pixels are unknown.

    Attributes:
        picture: bytes per pixel that are held throughout.
        encoder: bytes per pixel of the encoder's image.
        features: bytes per pixel that the encoder leaves to the decoder.
        band: bytes per pixel that the decoder processes at once. Encoder and decoder do not peak together.
        band_pixels: number of pixels that the decoder processes at once.
        token_pixels: number of pixels per token of attention, whose time grows with the square of the tokens; infinite
            if only memory limits the size of an image.
        canvas: bytes per pixel of an image in tiles, in addition to those of the model for one tile.
    """

    picture: float
    encoder: float = 0
    features: float = 0
    band: float = 0
    band_pixels: int = 0
    token_pixels: float = math.inf
    canvas: float = FLOAT * CANVAS_FLOATS

    @classmethod
    def unknown(cls) -> "Footprint":
        """A generous estimate for a model without one."""
        return cls(UNKNOWN_MODEL)

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        """Bytes for an image of `pixels` pixels with the encoder at 1 / `encoder_scale`."""
        encoder = pixels * self.encoder / encoder_scale**2
        decoder = pixels * self.features + min(pixels, self.band_pixels) * self.band
        return int(FIXED + pixels * self.picture + max(encoder, decoder))

    def tiles(self, pixels: int, tile_pixels: int) -> int:
        """Bytes for an image of `pixels` in tiles, of which the model processes one at a time, of `tile_pixels`."""
        return int(self.whole(tile_pixels) + pixels * self.canvas)
