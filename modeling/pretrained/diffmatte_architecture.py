"""Architectures of DiffMatte, encoder and decoder, read from the tensors of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from modeling.backbone import PriorSwin, ResNet34D
from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.pretrained.architecture import DIFFMATTE_VITS, Network, check_heads, module_shapes, tensor_shape
from modeling.pretrained.matting_architecture import MAX_STAGES, ViTDetArchitecture, read_vitdet
from runtime.errors import InputError

ENCODERS = {"res34": ResNet34D, "swint": PriorSwin}  # encoders of one size
_STARTS = {"vit": "blocks.", "res34": "layer1.", "swint": "layers."}  # prefixes of names that only one encoder has


@dataclass(frozen=True)
class _WithUNet:
    """Part of the decoder: channels, named like the arguments of DiffusionUNet."""

    downsample_in: list[int]
    upsample_in: list[int]
    emb_channels: int

    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments with which modeling.decoder.diffusion_unet.DiffusionUNet is this model's decoder."""
        return {
            "downsample_in": self.downsample_in,
            "upsample_in": self.upsample_in,
            "emb_channels": self.emb_channels,
            "model_channels": self.upsample_in[-1],
        }

    def decoder_shapes(self) -> dict[str, tuple[int, ...]]:
        return module_shapes(partial(DiffusionUNet, **self.decoder_arguments()), "decoder.")


@dataclass(frozen=True)
class DiffMatteViT(_WithUNet, ViTDetArchitecture):
    """A DiffMatte model on the original ViTMatte's backbone."""

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        return ViTDetArchitecture.expected_shapes(self) | self.decoder_shapes()

    def name(self) -> str:
        found = (self.embed_dim, self.depth, self.num_heads, self.img_size)
        return next((name for name, published in DIFFMATTE_VITS.items() if published == found), "custom")


@dataclass(frozen=True)
class DiffMatteOfOneSize(_WithUNet, Network):
    """A DiffMatte model on an encoder that exists in one size; `encoder` is a name in ENCODERS."""

    encoder: str

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        return module_shapes(ENCODERS[self.encoder]) | self.decoder_shapes()

    def name(self) -> str:
        return f"diffmatte_{self.encoder}"

    def __str__(self) -> str:
        return f"{ENCODERS[self.encoder].__name__} of the published size"


def read_diffmatte_architecture(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[DiffMatteViT | DiffMatteOfOneSize, str]:
    """Read the architecture from tensors with this project's names. Only shapes are used, so meta tensors work.

    Args:
        config: ignored; DiffMatte publishes none.

    Returns:
        The architecture, and the source of its number of heads.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape, or the encoder is not one of DiffMatte's.
    """
    found = [encoder for encoder, start in _STARTS.items() if any(key.startswith(start) for key in tensors)]
    if len(found) != 1:
        names = ", ".join(f"{start}* ({encoder})" for encoder, start in _STARTS.items())
        raise InputError(f"expected one of DiffMatte's encoders, {names}; found {' and '.join(found) or 'none'}")
    decoder = _read_decoder(tensors)
    if found != ["vit"]:
        return DiffMatteOfOneSize(family="diffmatte", encoder=found[0], **decoder), "the published model"
    architecture = DiffMatteViT(family="diffmatte", **read_vitdet(tensors, {}), **decoder)
    check_heads(architecture)
    return architecture, "relative positions"


def _read_decoder(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    down = _read_blocks(tensors, "decoder.down_blks.{}.conv1.weight")
    up = _read_blocks(tensors, "decoder.up_blks.{}.conv1.weight")
    features, deepest, *_ = tensor_shape(tensors, "decoder.mid_blk.conv1.weight", 4)  # transposed: in, out
    if not down or len(up) != len(down):
        raise InputError(
            f"expected as many blocks up as down in the decoder, found {len(up)} and {len(down)}; "
            "the file is incomplete"
        )
    return {
        "downsample_in": [down[0][1], *(out_chans for out_chans, _ in down)],
        "upsample_in": [features, deepest, *(out_chans for _, out_chans in up)],
        "emb_channels": tensor_shape(tensors, "decoder.time_embed.0.weight", 2)[0],
    }


def _read_blocks(tensors: Mapping[str, Tensor], key: str) -> list[tuple[int, int]]:
    """First two dimensions of each block's kernel."""
    shapes = []
    while len(shapes) < MAX_STAGES and key.format(len(shapes)) in tensors:
        shapes.append(tensor_shape(tensors, key.format(len(shapes)), 4)[:2])
    return shapes
