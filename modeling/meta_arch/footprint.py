"""Peak memory of a prediction, estimated from a model's widths; docs/inference.md compares it with measurements."""

import math
from dataclasses import dataclass

FLOAT = 4
PICTURE_FLOATS = 15  # a pixel: image and trimap, the network's input, masks, alpha, and what files are read to
CANVAS_FLOATS = 12  # a pixel of an image in tiles: the image, its trimap, and the sums that the tiles are blended in
PRIOR_FLOATS = 4  # a pixel, for each channel of a colour prior: blurs and estimates beside the channel itself
FIXED = 150 * 2**20  # what does not grow: chunks of attention and tiles, buffers of the libraries
UNKNOWN_MODEL = 1200  # bytes a pixel for a model that does not say


@dataclass(frozen=True)
class Footprint:
    """Peak bytes beside the weights, as a function of the image, if all of it were unknown.

    Attributes:
        picture: bytes a pixel of what is held throughout.
        encoder: bytes a pixel of what the encoder sees.
        features: bytes a pixel of what the encoder leaves to the decoder.
        band: bytes a pixel of what the decoder works on at once. Encoder and decoder do not peak together.
        band_pixels: how much the decoder works on at once.
        token_pixels: pixels that share a token of attention, whose time grows with the square of the tokens; infinite
            where memory alone limits the size of an image.
        canvas: bytes a pixel of an image in tiles, beside what the model takes for one tile.
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
        """A generous figure for a model that does not say."""
        return cls(UNKNOWN_MODEL)

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        """Bytes for an image of so many pixels, its encoder at 1 / `encoder_scale`."""
        encoder = pixels * self.encoder / encoder_scale**2
        decoder = pixels * self.features + min(pixels, self.band_pixels) * self.band
        return int(FIXED + pixels * self.picture + max(encoder, decoder))

    def tiles(self, pixels: int, tile_pixels: int) -> int:
        """Bytes for an image of `pixels` in tiles: the model sees one tile at a time, of `tile_pixels`."""
        return int(self.whole(tile_pixels) + pixels * self.canvas)
