"""Architectures of Deep Image Matting and its encoder VGG-16, read from the tensors of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from modeling.backbone.vgg16 import DEPTHS, VGG16, WIDTHS
from modeling.decoder.unpooling import RefinementNetwork, UnpoolingDecoder
from modeling.pretrained.architecture import Network, module_shapes, tensor_shape

WITHOUT_IMAGENET = ("conv6.", "bn.")  # tensors of this project's encoder that torchvision's does not have


@dataclass(frozen=True)
class VGG16Encoder(Network):
    """VGG-16's convolutions, for RGB or with a channel for the trimap."""

    widths: list[int]
    batch_norm: bool

    def vgg_arguments(self, in_chans: int = 3) -> dict[str, Any]:
        """Arguments with which modeling.backbone.VGG16 is this encoder."""
        return {"in_chans": in_chans, "widths": self.widths, "batch_norm": self.batch_norm}

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = module_shapes(partial(VGG16, **self.vgg_arguments()))
        return {key: shape for key, shape in shapes.items() if not key.startswith(WITHOUT_IMAGENET)}

    def name(self) -> str:
        return self._published_name("vgg16")

    def _published_name(self, name: str) -> str:
        return name + "_bn" * self.batch_norm if self.widths == list(WIDTHS) else "custom"

    def __str__(self) -> str:
        return f"VGG-16 of widths {', '.join(map(str, self.widths))}" + ", with batch norm" * self.batch_norm


@dataclass(frozen=True)
class DIMArchitecture(VGG16Encoder):
    """A Deep Image Matting model; `refiner_width` is None in stage 1."""

    refiner_width: int | None

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = module_shapes(partial(VGG16, **self.vgg_arguments(in_chans=4)))
        shapes |= module_shapes(partial(UnpoolingDecoder, self.widths), "decoder.")
        if self.refiner_width is not None:
            shapes |= module_shapes(partial(RefinementNetwork, self.refiner_width), "refiner.")
        return shapes

    def name(self) -> str:
        return self._published_name("dim_stage1" if self.refiner_width is None else "dim_refined")

    def __str__(self) -> str:
        return f"{super().__str__()}; " + ("no refinement" if self.refiner_width is None else "with refinement")


def read_vgg16_architecture(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[VGG16Encoder, str]:
    """Read the encoder from tensors with this project's names; `config` is ignored.

    Returns:
        The architecture, and a note that there are no attention heads.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape.
    """
    return VGG16Encoder(family="vgg16", **_read_encoder(tensors)), "none"


def read_dim_architecture(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[DIMArchitecture, str]:
    """Read encoder, decoder and refinement from tensors; see `read_vgg16_architecture`."""
    has_refiner = any(key.startswith("refiner.") for key in tensors)
    width = tensor_shape(tensors, "refiner.refine_conv1.weight", 4)[0] if has_refiner else None
    return DIMArchitecture(family="dim", **_read_encoder(tensors), refiner_width=width), "none"


def _read_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = range(1, len(DEPTHS) + 1)
    return {
        "widths": [tensor_shape(tensors, f"layer{stage}.0.weight", 4)[0] for stage in stages],
        "batch_norm": any(key.endswith(".running_mean") for key in tensors),
    }
