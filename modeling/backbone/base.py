"""The contract of an encoder: an image, with or without a trimap, to maps of features."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

TOKEN_WIDTHS = 14  # embeddings a token holds at the peak of a block: stream, norm, queries, keys, values, windows


class Encoder(nn.Module):
    """What systems ask of an encoder.

    Attributes:
        in_chans: input channels.
        patch_size: pixels that a side of a feature stands for.
        embed_dim: channels of a map.
    """

    in_chans: int
    patch_size: int
    embed_dim: int

    @property
    def peak_floats(self) -> float:
        """Numbers a pixel that a prediction holds at its peak; the default is that of blocks of attention."""
        return TOKEN_WIDTHS * self.embed_dim / self.patch_size**2

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, in_chans, H, W) to (B, embed_dim, ceil(H / patch_size), ceil(W / patch_size)).

        Args:
            needed: bool (B or 1, rows, columns), the features that will be read; None for all. The others may hold any
                finite value.
        """
        raise NotImplementedError

    def features(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """The maps after several blocks, in the order asked for, each like the result of `forward`."""
        raise NotImplementedError(f"{type(self).__name__} gives no maps of single blocks")

    def parameter_layers(self) -> Iterable[tuple[nn.Parameter, int]]:
        """Pairs of a pretrained parameter and its depth, 0 for embeddings; what comes new is left out."""
        return ()

    def token_parameters(self) -> Iterable[nn.Parameter]:
        """Tokens, position embeddings and LayerScale factors: what weight decay must not shrink."""
        return ()

    def metadata(self) -> dict[str, Any]:
        """Plain values that the weights were trained with and must agree, such as the epsilon of LayerNorm."""
        return {}
