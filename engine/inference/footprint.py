"""What a model needs at its peak for an image of a size, reckoned from its widths; docs/inference.md compares."""

from dataclasses import dataclass

from torch import nn

FLOAT = 4
TOKEN_WIDTHS = 14  # embeddings a token holds at the peak of a block: stream, norm, queries, keys, values, windows
PICTURE_FLOATS = 15  # a pixel: image and trimap, the network's input, masks, alpha, and what files are read to
CANVAS_FLOATS = 12  # a pixel of an image in tiles: the image, its trimap, and the sums that the tiles are blended in
PRIOR_FLOATS = 4  # a pixel, for each channel of a colour prior: blurs and estimates beside the channel itself
FIXED = 150 * 2**20  # what does not grow: chunks of attention and tiles, buffers of the libraries
UNKNOWN_MODEL = 1200  # bytes a pixel for a model without the parts we know


@dataclass(frozen=True)
class Footprint:
    """Peak bytes beside the weights, as a function of the image, if all of it were unknown.

    Attributes:
        picture: bytes a pixel of what is held throughout.
        encoder: bytes a pixel of what the encoder sees.
        features: bytes a pixel of what the encoder leaves to the decoder.
        band: bytes a pixel of what the decoder works on at once. Encoder and decoder do not peak together.
        band_pixels: how much the decoder works on at once.
    """

    picture: float
    encoder: float = 0
    features: float = 0
    band: float = 0
    band_pixels: int = 0

    @classmethod
    def of(cls, model: nn.Module) -> "Footprint":
        """Reckon it for a ViTMatte, or assume a generous figure for another model."""
        backbone, decoder = getattr(model, "backbone", None), getattr(model, "decoder", None)
        if not (hasattr(backbone, "embed_dim") and hasattr(decoder, "convstream")):
            return cls(UNKNOWN_MODEL)
        features = backbone.embed_dim / backbone.patch_size**2
        details = [conv.conv.out_channels for conv in decoder.convstream.convs]  # at 1/2, 1/4, ...
        fused = [block.conv.conv.out_channels for block in reversed(decoder.fusion_blks[:-1])]  # the same
        maps = sum((one + other) / 4**level for level, (one, other) in enumerate(zip(details, fused, strict=True), 1))
        return cls(
            picture=FLOAT * (PICTURE_FLOATS + PRIOR_FLOATS * (decoder.img_chans - 4)),
            encoder=FLOAT * TOKEN_WIDTHS * features,
            features=FLOAT * features,
            band=FLOAT * (maps + decoder.img_chans),
            band_pixels=decoder.band_pixels,
        )

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        """Bytes for an image of so many pixels, its encoder at 1 / `encoder_scale`."""
        encoder = pixels * self.encoder / encoder_scale**2
        decoder = pixels * self.features + min(pixels, self.band_pixels) * self.band
        return int(FIXED + pixels * self.picture + max(encoder, decoder))

    def tiles(self, pixels: int, tile_pixels: int) -> int:
        """Bytes for an image of `pixels` in tiles: the model sees one tile at a time, of `tile_pixels`."""
        return int(self.whole(tile_pixels) + pixels * FLOAT * CANVAS_FLOATS)
