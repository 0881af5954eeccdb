"""Architecture of a decoder on DINOv3's features with its encoder, read from the tensors of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import Tensor

from modeling.decoder.feature_decoder import FeatureDecoder
from modeling.pretrained.architecture import (
    FROZEN_PREFIX,
    Architecture,
    module_shapes,
    read_architecture,
    tensor_shape,
)
from runtime.errors import InputError


@dataclass(frozen=True)
class FrozenArchitecture(Architecture):
    """A DINOv3 ViT for RGB, and the decoder's channels and refinement, named like the arguments of FeatureDecoder."""

    dims: list[int]
    boundary_refinement: bool

    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments with which modeling.decoder.feature_decoder.FeatureDecoder is this model's decoder."""
        return {"in_chans": self.embed_dim, "dims": self.dims, "boundary_refinement": self.boundary_refinement}

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        decoder = module_shapes(partial(FeatureDecoder, **self.decoder_arguments()), "decoder.")
        return super().expected_shapes() | decoder

    def name(self) -> str:
        encoder = super().name()
        return encoder if encoder == "custom" else FROZEN_PREFIX + encoder


def read_frozen_architecture(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[FrozenArchitecture, str]:
    """Read the architecture from tensors with this project's names. Only shapes are used, so meta tensors work.

    Args:
        config: ignored; the publisher writes none.

    Returns:
        The architecture, and the source of its number of heads.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape, or the file has no encoder.
    """
    if "patch_embed.proj.weight" not in tensors:
        raise InputError(
            "found the decoder alone, without encoder.dinov3.*, which the published code always stores; the file is "
            "incomplete"
        )
    encoder, heads_from = read_architecture(tensors, "dinov3")
    dims = [
        tensor_shape(tensors, "decoder.input_proj.weight", 4)[0],
        *(tensor_shape(tensors, f"decoder.upsample_blocks.{index}.weight", 4)[0] for index in range(2)),
    ]
    facts = {field.name: getattr(encoder, field.name) for field in fields(encoder)}
    refined = any(key.startswith("decoder.boundary_refiner.") for key in tensors)
    return FrozenArchitecture(**facts, dims=dims, boundary_refinement=refined), heads_from
