"""What a model needs at its peak for an image of a size, reckoned from its widths; docs/inference.md compares."""

from dataclasses import dataclass

from torch import nn

FLOAT = 4
TOKEN_WIDTHS = 14  # embeddings a token holds at the peak of a block: stream, norm, queries, keys, values, windows
PICTURE_FLOATS = 15  # a pixel: the image, normalised, joined with the trimap, and alpha
PRIOR_FLOATS = 4  # a pixel, for each channel of a colour prior: blurs and estimates beside the channel itself
FIXED = 150 * 2**20  # what does not grow: chunks of attention and tiles, buffers of the libraries
UNKNOWN_MODEL = 1200  # bytes a pixel for a model without the parts we know


@dataclass(frozen=True)
class Footprint:
    """Peak bytes beside the weights, as a function of the image, if all of it were unknown.

    Attributes:
        picture, encoder, decoder: bytes a pixel of what each holds at its peak; encoder and decoder do not peak
            together.
    """

    picture: float
    encoder: float
    decoder: float

    @classmethod
    def of(cls, model: nn.Module) -> "Footprint":
        """Reckon it for a ViTMatte, or assume a generous figure for another model."""
        backbone, decoder = getattr(model, "backbone", None), getattr(model, "decoder", None)
        if not (hasattr(backbone, "embed_dim") and hasattr(decoder, "convstream")):
            return cls(UNKNOWN_MODEL, 0, 0)
        features = backbone.embed_dim / backbone.patch_size**2
        details = [conv.conv.out_channels for conv in decoder.convstream.convs]  # at 1/2, 1/4, ...
        fused = [block.conv.conv.out_channels for block in reversed(decoder.fusion_blks[:-1])]  # the same
        maps = sum((one + other) / 4**level for level, (one, other) in enumerate(zip(details, fused, strict=True), 1))
        prior = PRIOR_FLOATS * (decoder.img_chans - 4)
        return cls(FLOAT * (PICTURE_FLOATS + prior), FLOAT * TOKEN_WIDTHS * features, FLOAT * (maps + features))

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        """Bytes for an image of so many pixels, its encoder at 1 / `encoder_scale`."""
        return int(FIXED + pixels * (self.picture + max(self.encoder / encoder_scale**2, self.decoder)))

    def tiles(self, pixels: int, tile_pixels: int) -> int:
        """Bytes for tiles of an image: the model sees one tile at a time."""
        return int(self.whole(min(tile_pixels, pixels)) + pixels * FLOAT * PICTURE_FLOATS / 2)
