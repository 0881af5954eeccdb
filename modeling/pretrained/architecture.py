"""Architectures of ViTs, read from the tensors of a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

from torch import Tensor, nn

from modeling.backbone import DINOV2_VARIANTS, DINOV3_VARIANTS, ViT, dinov2_arguments
from modeling.backbone.variants import DINOV2_PATCH_SIZE
from modeling.outline import outlines
from runtime.errors import InputError

MAX_PATCH_SIZE = 64  # pixels
MAX_DEPTH = 64  # ViT-7B has 40; a limit for hostile files
DINOV3_EPS = 1e-5
PLAIN_EPS = 1e-6
ROPE_BASE = 100.0
FOLDED_POSITIONS = "pos_embed.patches"  # positions without the row of the class token, which cls_token includes

# DINO's and MAE's own ViTs: (embed_dim, depth, num_heads, patch_size). DINO's ViT-B/16 has the architecture of MAE's.
PLAIN_VARIANTS = {
    "dino_vits8": (384, 12, 6, 8),
    "dino_vits16": (384, 12, 6, 16),
    "dino_vitb8": (768, 12, 12, 8),
    "mae_vitb16": (768, 12, 12, 16),
    "mae_vitl16": (1024, 24, 16, 16),
}

# ViTMatte's published models: (embed_dim, depth, num_heads)
VITMATTE_VARIANTS = {"vitmatte_s": (384, 12, 6), "vitmatte_b": (768, 12, 12)}

# DiffMatte's published models with a ViT: (embed_dim, depth, num_heads, img_size). The others have one size each.
DIFFMATTE_VITS = {
    "diffmatte_vits": (384, 12, 6, 512),
    "diffmatte_vits_1024": (384, 12, 6, 1024),
    "diffmatte_vitb": (768, 12, 12, 512),
}
DIFFMATTE_VARIANTS = (*DIFFMATTE_VITS, "diffmatte_res34", "diffmatte_swint")
DIM_VARIANTS = ("vgg16", "vgg16_bn", "dim_stage1", "dim_stage1_bn", "dim_refined", "dim_refined_bn")
FROZEN_PREFIX = "frozen_"  # before the encoder's name, for nikhiliit/Dinov3_matting's decoder on that encoder
FROZEN_VARIANTS = tuple(FROZEN_PREFIX + name for name in ("dinov3_vits16", "dinov3_vitb16", "dinov3_vitl16"))
DINOV2_NAMES = tuple(f"{name}{suffix}" for name in DINOV2_VARIANTS for suffix in ("", "_reg"))
ARCHITECTURES = (
    *DINOV3_VARIANTS,
    *DINOV2_NAMES,
    *PLAIN_VARIANTS,
    *VITMATTE_VARIANTS,
    *DIFFMATTE_VARIANTS,
    *DIM_VARIANTS,
    *FROZEN_VARIANTS,
)


@dataclass(frozen=True)
class Network:
    """A network as recognised by the converter: plain values, which are stored in the converted file's metadata."""

    family: str  # as in key_layouts.py

    def to_metadata(self) -> dict[str, Any]:
        return asdict(self)

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the network; nothing is allocated."""
        raise NotImplementedError

    def name(self) -> str:
        """Published name of this network, or "custom"."""
        raise NotImplementedError


@dataclass(frozen=True)
class Architecture(Network):
    """A ViT as recognised by the converter.

    `patch_size` and `pretrain_img_size` are in pixels. `rope_base` is None for absolute positions, and
    `pretrain_img_size` is None for rotary ones.
    """

    embed_dim: int
    depth: int
    num_heads: int
    ffn: str  # "mlp" or "swiglu"
    ffn_hidden_dim: int
    num_register_tokens: int
    layer_norm_eps: float
    rope_base: float | None
    pretrain_img_size: int | None
    patch_size: int

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Architecture":
        """Read the architecture back from a converted file's metadata."""
        metadata = {"patch_size": 16, **metadata}  # files of format 1 do not have it; their patches have 16 pixels
        return cls(**{field.name: metadata[field.name] for field in fields(cls)})

    def vit_arguments(self) -> dict[str, Any]:
        """Arguments with which modeling.backbone.ViT is this network, for RGB input."""
        arguments = {
            "in_chans": 3,
            "patch_size": self.patch_size,
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "mlp_ratio": self.ffn_hidden_dim / self.embed_dim,
            "ffn": self.ffn,
            "num_register_tokens": self.num_register_tokens,
            "norm_layer": partial(nn.LayerNorm, eps=self.layer_norm_eps),
            "rope_base": self.rope_base,
            "use_abs_pos": self.pretrain_img_size is not None,
        }
        if self.family == "dinov2":
            arguments |= dinov2_arguments(self.num_register_tokens)
        elif self.family != "dinov3":
            arguments["layer_scale_init"] = None
        if self.pretrain_img_size is not None:
            arguments["pretrain_img_size"] = self.pretrain_img_size
        return arguments

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        return module_shapes(partial(ViT, **self.vit_arguments()))

    def name(self) -> str:
        for name, variant in DINOV3_VARIANTS.items():
            if self.family == "dinov3" and asdict(variant).items() <= asdict(self).items():
                return name
        for name, published in DINOV2_VARIANTS.items():
            found = (self.embed_dim, self.depth, self.num_heads)
            is_published = self.patch_size == DINOV2_PATCH_SIZE and self.ffn_hidden_dim == 4 * self.embed_dim
            if self.family == "dinov2" and found == published and is_published and self.num_register_tokens in (0, 4):
                return name + "_reg" * (self.num_register_tokens > 0)
        for name, published in PLAIN_VARIANTS.items():
            found = (self.embed_dim, self.depth, self.num_heads, self.patch_size)
            if self.family == "plain" and found == published and self.ffn_hidden_dim == 4 * self.embed_dim:
                return name
        return "custom"

    def __str__(self) -> str:
        return (
            f"width {self.embed_dim}, depth {self.depth}, {self.num_heads} heads, "
            f"{self.ffn} of {self.ffn_hidden_dim}, {self.num_register_tokens} registers, patch {self.patch_size}"
        )


def read_architecture(
    tensors: Mapping[str, Tensor],
    family: str,
    config: Mapping[str, Any] | None = None,
    num_heads: int | None = None,
) -> tuple[Architecture, str]:
    """Read the architecture from tensors with this project's names. Only shapes are used, so meta tensors work.

    The number of heads is not in the weights. It comes from the number of rotary periods, else from `config`, else
    from `num_heads`, else from the published models of that width.

    Args:
        family: "dinov3", "dinov2" or "plain".
        config: transformers' config.json of a DINOv3ViTModel, Dinov2Model or Dinov2WithRegistersModel, or empty.
        num_heads: number of attention heads that the user gives, None if unknown.

    Returns:
        The architecture, and the source of its number of heads.

    Raises:
        InputError: an essential tensor is missing or has the wrong shape, the network is not a ViT for RGB, `config`
            contradicts the tensors, or the number of heads cannot be determined.
    """
    embed_dim, patch_size = read_patch_embed(tensors)
    depth = read_depth(tensors)
    if family == "dinov3" and embed_dim == 4096:
        raise InputError("DINOv3 ViT-7B/16 is not supported (27 GB in float32); use ViT-H+/16 or smaller")
    ffn, layer = ("swiglu", "w1") if "blocks.0.mlp.w1.weight" in tensors else ("mlp", "fc1")
    ffn_hidden_dim = tensor_shape(tensors, f"blocks.0.mlp.{layer}.weight", 2)[0]
    heads, heads_from = _read_heads(tensors, embed_dim, None if family == "plain" else config, num_heads)
    if family == "plain":
        registers, eps, rope_base, size = 0, PLAIN_EPS, None, read_position_size(tensors, patch_size)
    elif family == "dinov2":
        registers = tensor_shape(tensors, "storage_tokens", 3)[1] if "storage_tokens" in tensors else 0
        eps = float(config_number(config or {}, "layer_norm_eps", PLAIN_EPS))
        rope_base, size = None, read_position_size(tensors, patch_size)
    else:
        registers, size = _read_registers(tensors), None
        eps = float(config_number(config or {}, "layer_norm_eps", DINOV3_EPS))
        rope_base = float(config_number(config or {}, "rope_theta", ROPE_BASE))
    architecture = Architecture(
        family, embed_dim, depth, heads, ffn, ffn_hidden_dim, registers, eps, rope_base, size, patch_size
    )
    check_heads(architecture)
    if config is not None:
        _check_config(architecture, config)
    return architecture, heads_from


def module_shapes(build: Callable[[], nn.Module], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Name (after `prefix`) and shape of every tensor of a module, which is built without memory."""
    with outlines():
        return {prefix + key: tuple(tensor.shape) for key, tensor in build().state_dict().items()}


def check_requested(architecture: Network, arch: str) -> None:
    """Compare the architecture with `--arch`.

    Raises:
        InputError: `arch` is not "auto" and the tensors are of another architecture.
    """
    if arch != "auto" and arch not in ARCHITECTURES:
        raise InputError(f"unknown architecture {arch}; expected auto, {', '.join(ARCHITECTURES)}")
    if arch not in ("auto", architecture.name()):
        raise InputError(
            f"expected {arch}, found {architecture.name()} ({architecture}); correct --arch or leave it out"
        )


def tensor_shape(tensors: Mapping[str, Tensor], key: str, ndim: int) -> tuple[int, ...]:
    """Shape of a tensor that must exist and have `ndim` dimensions."""
    if key not in tensors:
        raise InputError(f"{key} is missing; the file is incomplete")
    shape = tuple(tensors[key].shape)
    if len(shape) != ndim or 0 in shape:
        raise InputError(f"{key}: expected a tensor of {ndim} dimensions, found shape {shape}")
    return shape


def read_patch_embed(tensors: Mapping[str, Tensor], in_chans: int = 3) -> tuple[int, int]:
    """Width and patch size, after a check of the input channels."""
    embed_dim, channels, *patch = tensor_shape(tensors, "patch_embed.proj.weight", 4)
    if patch[0] != patch[1] or patch[0] > MAX_PATCH_SIZE:
        raise InputError(
            f"expected square patches of 1 to {MAX_PATCH_SIZE} pixels a side, found {patch[0]} x {patch[1]}"
        )
    if channels == 4 and in_chans == 3:
        raise InputError(
            "the patch embedding has 4 input channels already (converted or trained); use the file as it is"
        )
    if channels != in_chans:
        kind = "RGB" if in_chans == 3 else "RGB and trimap"
        raise InputError(f"expected a patch embedding of {in_chans} input channels ({kind}), found {channels}")
    return embed_dim, patch[0]


def read_depth(tensors: Mapping[str, Tensor]) -> int:
    """Number of blocks. No block may be missing."""
    blocks = {int(key.split(".")[1]) for key in tensors if key.startswith("blocks.")}
    depth = max(blocks, default=-1) + 1
    if not 1 <= depth <= MAX_DEPTH:
        raise InputError(f"expected 1 to {MAX_DEPTH} transformer blocks, found {depth}")
    if absent := set(range(depth)) - blocks:
        raise InputError(f"block {min(absent)} of {depth} is missing; the file is incomplete")
    return depth


def read_position_size(tensors: Mapping[str, Tensor], patch_size: int) -> int:
    """Image size in pixels of the absolute positions."""
    is_folded = FOLDED_POSITIONS in tensors
    rows = tensor_shape(tensors, FOLDED_POSITIONS if is_folded else "pos_embed", 3)[1] + is_folded
    side = round(max(rows - 1, 0) ** 0.5)
    if side * side + 1 != rows or side == 0:
        raise InputError(f"pos_embed: expected a row for CLS and a square grid (1 + 14 * 14 = 197), found {rows} rows")
    return side * patch_size


def _read_registers(tensors: Mapping[str, Tensor]) -> int:
    """Number of DINOv3's register tokens; transformers writes an empty tensor for none."""
    if "storage_tokens" not in tensors:
        raise InputError(
            "storage_tokens is missing, of which published DINOv3 has 4; the file is incomplete, or of a ViT without "
            "register tokens, which converts with a tensor of shape (1, 0, width) in their place"
        )
    if tensors["storage_tokens"].numel() == 0 and tensors["storage_tokens"].ndim == 3:
        return 0
    return tensor_shape(tensors, "storage_tokens", 3)[1]


def _read_heads(
    tensors: Mapping[str, Tensor], embed_dim: int, config: Mapping[str, Any] | None, given: int | None
) -> tuple[int, str]:
    """Number of heads and its source; `given` must agree with the file."""
    heads, source = _heads_of_file(tensors, embed_dim, config)
    if source is None:
        return (given, "--num-heads") if given is not None else _heads_by_width(embed_dim)
    if given not in (None, heads):
        raise InputError(f"--num-heads: expected {heads}, given by {source}, got {given}; leave it out")
    return heads, source


def _heads_of_file(
    tensors: Mapping[str, Tensor], embed_dim: int, config: Mapping[str, Any] | None
) -> tuple[int, str | None]:
    if "rope_embed.periods" in tensors:
        frequencies = tensor_shape(tensors, "rope_embed.periods", 1)[0]  # a quarter of the head's channels
        if embed_dim % (4 * frequencies):
            raise InputError(f"rope_embed.periods: {frequencies} periods do not fit a width of {embed_dim}")
        return embed_dim // (4 * frequencies), "rotary periods"
    if config is not None and "num_attention_heads" in config:
        return int(config_number(config, "num_attention_heads", 0)), "config.json"
    return 0, None


def _heads_by_width(embed_dim: int) -> tuple[int, str]:
    published = {variant.embed_dim: variant.num_heads for variant in DINOV3_VARIANTS.values()}
    published |= {width: heads for width, _, heads, _ in PLAIN_VARIANTS.values()}
    published |= {width: heads for width, _, heads in DINOV2_VARIANTS.values()}
    if embed_dim not in published:
        raise InputError(
            f"the number of attention heads is not in the tensors and no published ViT is {embed_dim} wide; give "
            "--num-heads N, or put the config.json of a Hugging Face file beside it"
        )
    return published[embed_dim], f"published models of width {embed_dim}"


def config_number(config: Mapping[str, Any], field: str, default: float) -> float:
    """A positive number from config.json."""
    value = config.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InputError(f"config.json: expected a positive number as {field}, found {value!r}")
    return value


def check_heads(architecture: Architecture) -> None:
    """Refuse a number of heads that does not divide the width."""
    heads, width = architecture.num_heads, architecture.embed_dim
    multiple = 1 if architecture.rope_base is None else 4  # two axes, sine and cosine
    if heads < 1 or width % (heads * multiple):
        raise InputError(f"{heads} attention heads do not fit a width of {width}")


def _check_config(architecture: Architecture, config: Mapping[str, Any]) -> None:
    expected = {
        "hidden_size": architecture.embed_dim,
        "patch_size": architecture.patch_size,
        "num_hidden_layers": architecture.depth,
        "num_attention_heads": architecture.num_heads,
        "hidden_act": "silu" if architecture.ffn == "swiglu" else "gelu",
    }
    if architecture.family == "dinov2":
        expected |= {
            "mlp_ratio": architecture.ffn_hidden_dim / architecture.embed_dim,
            "use_swiglu_ffn": False,
            "image_size": architecture.pretrain_img_size,
        }
        if architecture.num_register_tokens:  # Dinov2Model's config has no such field
            expected["num_register_tokens"] = architecture.num_register_tokens
    else:
        expected |= {
            "intermediate_size": architecture.ffn_hidden_dim,
            "num_register_tokens": architecture.num_register_tokens,
            "use_gated_mlp": architecture.ffn == "swiglu",
        }
    check_config_fields(config, expected)


def check_config_fields(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a config.json with a field that contradicts the tensors. Missing fields are allowed."""
    for field, value in expected.items():
        stated = config.get(field, value)
        stated = list(stated) if isinstance(stated, tuple) else stated  # transformers' to_dict() has tuples
        if stated != value:
            raise InputError(f"config.json says {field} {stated!r}, the tensors say {value!r}; is it another model's?")
