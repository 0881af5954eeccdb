"""Architectures of ViTMatte, backbone and decoder, read from the tensors of a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from modeling.decoder import DetailCapture
from modeling.outline import outlines
from modeling.pretrained.architecture import (
    PLAIN_EPS,
    VITMATTE_VARIANTS,
    Architecture,
    check_config_fields,
    check_heads,
    config_number,
    module_shapes,
    read_depth,
    read_patch_embed,
    read_position_size,
    tensor_shape,
)
from runtime.errors import InputError

IN_CHANS = 4  # RGB and trimap
MAX_STAGES = 16  # largest number of stages of a decoder; ViTMatte has 3 and 4


@dataclass(frozen=True)
class ViTDetArchitecture(Architecture):
    """The original ViTMatte's backbone, with input channels for the trimap.

    `img_size` is in pixels, `window_size` in patches.
    """

    img_size: int
    window_size: int
    window_block_indexes: list[int]
    residual_block_indexes: list[int]

    def vit_arguments(self) -> dict[str, Any]:
        """Arguments with which modeling.backbone.ViT is this model's backbone."""
        return super().vit_arguments() | {
            "in_chans": IN_CHANS,
            "use_cls_token": False,
            "use_rel_pos": True,
            "window_padding": "zeros",
            "final_norm": False,
            "img_size": self.img_size,
            "window_size": self.window_size,
            "window_block_indexes": self.window_block_indexes,
            "residual_block_indexes": self.residual_block_indexes,
        }


@dataclass(frozen=True)
class MattingArchitecture(ViTDetArchitecture):
    """A whole ViTMatte model with the original backbone."""

    convstream_out: list[int]
    fusion_out: list[int]

    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments with which modeling.decoder.DetailCapture is this model's decoder."""
        return {"in_chans": self.embed_dim, "convstream_out": self.convstream_out, "fusion_out": self.fusion_out}

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of backbone and decoder ("decoder."); nothing is allocated."""
        decoder = module_shapes(partial(DetailCapture, **self.decoder_arguments()), "decoder.")
        return super().expected_shapes() | decoder

    def name(self) -> str:
        for name, published in VITMATTE_VARIANTS.items():
            if (self.embed_dim, self.depth, self.num_heads) == published:
                return name
        return "custom"


def read_matting_architecture(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> tuple[MattingArchitecture, str]:
    """Read the architecture from tensors with this project's names. Only shapes are used, so meta tensors work.

    Args:
        config: config.json of a VitMatteForImageMatting, or empty.

    Returns:
        The architecture, and the source of its number of heads.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape, or `config` contradicts the tensors or
            describes a model that transformers supports and this project does not.
    """
    backbone_config = (config or {}).get("backbone_config") or {}
    if not isinstance(backbone_config, Mapping):
        raise InputError(f"config.json: expected an object as backbone_config, found {backbone_config!r:.80}")
    architecture = MattingArchitecture(
        family="vitmatte",
        **read_vitdet(tensors, backbone_config),
        convstream_out=_read_widths(tensors, "decoder.convstream.convs.{}.conv.weight"),
        fusion_out=_read_widths(tensors, "decoder.fusion_blks.{}.conv.conv.weight"),
    )
    check_heads(architecture)
    if len(architecture.fusion_out) != len(architecture.convstream_out) + 1:
        raise InputError(
            f"expected one fusion more than detail convolutions in the decoder, found {len(architecture.fusion_out)} "
            f"and {len(architecture.convstream_out)}; the file is incomplete"
        )
    with outlines():
        DetailCapture(**architecture.decoder_arguments()).check_patch_size(architecture.patch_size)
    if config is not None:
        _check_config(architecture, config, backbone_config)
    return architecture, "relative positions"


def read_vitdet(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of ViTDetArchitecture, except the family.

    The tables of relative positions determine the width of a head and the windowed blocks. If all tables have one size,
    transformers' config.json determines the windowed blocks.

    Args:
        config: its backbone_config, or empty.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape.
    """
    embed_dim, patch_size = read_patch_embed(tensors, in_chans=IN_CHANS)
    depth = read_depth(tensors)
    tables = [tensor_shape(tensors, f"blocks.{index}.attn.rel_pos_h", 2) for index in range(depth)]
    img_size, window_size, windowed = _read_windows([length for length, _ in tables], config, patch_size)
    return {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": embed_dim // tables[0][1],
        "ffn": "mlp",
        "ffn_hidden_dim": tensor_shape(tensors, "blocks.0.mlp.fc1.weight", 2)[0],
        "num_register_tokens": 0,
        "layer_norm_eps": float(config_number(config, "layer_norm_eps", PLAIN_EPS)),
        "rope_base": None,
        "pretrain_img_size": read_position_size(tensors, patch_size),
        "patch_size": patch_size,
        "img_size": img_size,
        "window_size": window_size,
        "window_block_indexes": windowed,
        "residual_block_indexes": [i for i in range(depth) if f"blocks.{i}.residual.conv1.weight" in tensors],
    }


def _read_windows(lengths: list[int], config: Mapping[str, Any], patch_size: int) -> tuple[int, int, list[int]]:
    """Image size in pixels, window size in patches and windowed blocks, from the lengths 2 n - 1 of the tables."""
    sizes = [(length + 1) // 2 for length in lengths]
    if {"image_size", "window_size", "window_block_indices"} <= config.keys():
        windowed = config["window_block_indices"]
        if not isinstance(windowed, list | tuple) or any(index not in range(len(lengths)) for index in windowed):
            raise InputError(
                f"config.json: expected blocks of {len(lengths)} as window_block_indices: {windowed!r:.80}"
            )
        size, window = (int(config_number(config, field, 1)) for field in ("image_size", "window_size"))
        return size, window, [int(index) for index in windowed]
    if len(set(sizes)) != 2:
        raise InputError(
            f"expected relative positions of two sizes, windows' and whole images', found sizes {sorted(set(sizes))} "
            "in patches; convert a Hugging Face file with its config.json beside it, which gives both sizes"
        )
    window, whole = sorted(set(sizes))
    return whole * patch_size, window, [index for index, size in enumerate(sizes) if size == window]


def _read_widths(tensors: Mapping[str, Tensor], key: str) -> list[int]:
    widths = []
    while len(widths) < MAX_STAGES and key.format(len(widths)) in tensors:
        widths.append(tensor_shape(tensors, key.format(len(widths)), 4)[0])
    return widths


def _check_config(
    architecture: MattingArchitecture, config: Mapping[str, Any], backbone_config: Mapping[str, Any]
) -> None:
    check_config_fields(
        config,
        {
            "hidden_size": architecture.embed_dim,
            "convstream_hidden_sizes": architecture.convstream_out,
            "fusion_hidden_sizes": architecture.fusion_out,
            "batch_norm_eps": 1e-5,
        },
    )
    check_config_fields(
        backbone_config,
        {
            "hidden_size": architecture.embed_dim,
            "num_hidden_layers": architecture.depth,
            "num_attention_heads": architecture.num_heads,
            "num_channels": IN_CHANS,
            "patch_size": architecture.patch_size,
            "hidden_act": "gelu",
            "pretrain_image_size": architecture.pretrain_img_size,
            "residual_block_indices": architecture.residual_block_indexes,
            "out_features": [f"stage{architecture.depth}"],
        },
    )
