"""Encoder: the base class of backbones, which turn an image (and a trimap) into maps of features."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

TOKEN_WIDTHS = 14  # embeddings per token at the peak of a block: stream, norm, queries, keys, values, windows


def init_linear_layers(module: nn.Module) -> None:
    """Draw the weights of all linear layers, as in ViT and Swin; their biases become 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Encoder(nn.Module):
    """Base class of encoders.

    Attributes:
        in_chans: number of input channels.
        patch_size: side of the square of pixels that one feature covers.
        embed_dim: number of channels of a map.
    """

    in_chans: int
    patch_size: int
    embed_dim: int

    @property
    def peak_floats(self) -> float:
        """Floats per pixel at the peak of a prediction; the default is for blocks of attention."""
        return TOKEN_WIDTHS * self.embed_dim / self.patch_size**2

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        """Map (B, in_chans, H, W) to (B, embed_dim, ceil(H / patch_size), ceil(W / patch_size)).

        Args:
            needed: bool (B or 1, rows, columns), the features that will be read; None for all. Other features may have
                any finite value.
        """
        raise NotImplementedError

    def features(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Maps after several blocks, in the order of `blocks`, each like the result of `forward`."""
        raise NotImplementedError(f"{type(self).__name__} does not return maps of single blocks")

    def parameter_layers(self) -> Iterable[tuple[nn.Parameter, int]]:
        """Pairs of a pretrained parameter and its depth, 0 for embeddings. New parameters are not included."""
        return ()

    def token_parameters(self) -> Iterable[nn.Parameter]:
        """Tokens, position embeddings and LayerScale factors, which are exempt from weight decay."""
        return ()

    def metadata(self) -> dict[str, Any]:
        """Plain values that a checkpoint and a config must agree on, such as the epsilon of LayerNorm."""
        return {}
