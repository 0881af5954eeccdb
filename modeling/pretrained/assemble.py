"""Assembly of the model's tensors from those of a checkpoint, after its keys are renamed."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.backbone.prior_swin import position_index
from modeling.backbone.rope import RotaryPositions
from modeling.pretrained.architecture import FOLDED_POSITIONS, Architecture, Network
from modeling.pretrained.qkv import fold_bias_mask, join_bias, join_weight, read_bias_mask
from modeling.pretrained.select import POSITION_INDEX, describe_keys, holds_integers
from runtime.errors import InputError

_JOINED = re.compile(r"\.attn\.(?:qkv|q|k|v)\.")
_PERIOD_TOLERANCE = 0.01  # rounding to bfloat16 changes a period by up to 0.4 %


@dataclass
class Assembly:
    """Float32 tensors under the names of the encoder; whole models also have those of the decoder ("decoder.").

    `new` maps the names of tensors that are not in the source to a description of their values.
    """

    tensors: dict[str, Tensor]
    new: dict[str, str] = field(default_factory=dict)
    periods: str = "none"  # source of the rotary periods
    bias_mask: str = "none"  # treatment of DINOv3's qkv.bias_mask
    warnings: list[str] = field(default_factory=list)


def assemble(parts: Mapping[str, Tensor], architecture: Network) -> Assembly:
    """Join projections, fold the bias mask, add periods, and check the result.

    Args:
        parts: tensors of any float type by this project's names, as in Selection.tensors.

    Raises:
        InputError: a tensor is missing, unexpected, of the wrong shape or not finite.
    """
    is_ours = architecture.family in ("diffmatte", "dim", "vgg16")  # these need no joining or folding
    assembly = Assembly(dict(parts)) if is_ours else _assemble_vit(parts, architecture)
    expected = architecture.expected_shapes()
    _check_names(assembly.tensors, expected)
    assembly.tensors = {key: _finished(key, assembly.tensors[key], shape) for key, shape in expected.items()}
    return assembly


def _assemble_vit(parts: Mapping[str, Tensor], architecture: Architecture) -> Assembly:
    assembly = Assembly({key: tensor for key, tensor in parts.items() if not _is_joined(key)})
    _join_attention(assembly, parts, architecture)
    if FOLDED_POSITIONS in assembly.tensors:
        positions = assembly.tensors.pop(FOLDED_POSITIONS)
        assembly.tensors["pos_embed"] = F.pad(positions, (0, 0, 1, 0))
        assembly.new["pos_embed, row of CLS"] = "zeros, the source has added the row to cls_token"
    if architecture.rope_base is not None:
        _supply_periods(assembly, architecture)
    return assembly


def _is_joined(key: str) -> bool:
    return _JOINED.search(key) is not None


def _join_attention(assembly: Assembly, parts: Mapping[str, Tensor], architecture: Architecture) -> None:
    treatments: Counter[str] = Counter()
    dropped, without = [], []
    for index in range(architecture.depth):
        block = f"blocks.{index}"
        assembly.tensors[f"{block}.attn.qkv.weight"] = join_weight(parts, block, architecture.embed_dim)
        bias = join_bias(parts, block, architecture.embed_dim, has_key=architecture.family == "dinov2")
        if bias is None:
            without.append(f"{block}.attn.qkv.bias")
            bias = torch.zeros(3 * architecture.embed_dim)
        elif architecture.family == "dinov3" and f"{block}.attn.qkv.bias" in parts:
            mask = read_bias_mask(parts, block, architecture.embed_dim)
            bias, treatment, key_bias_dropped = fold_bias_mask(bias, mask)
            treatments[treatment] += 1
            dropped += [block] * key_bias_dropped
        assembly.tensors[f"{block}.attn.qkv.bias"] = bias
    if 0 < len(without) < architecture.depth:
        raise InputError(f"{describe_keys(without, 'missing')}; the file is incomplete")
    assembly.new |= dict.fromkeys(without, "zeros, the source has no bias for query, key and value")
    assembly.bias_mask = ", ".join(f"{name} ({count} blocks)" for name, count in treatments.items()) or "none"
    if set(treatments) - {"folded as stored"}:
        assembly.warnings.append(f"qkv.bias_mask: {assembly.bias_mask}")
    if dropped:
        assembly.warnings.append(f"a non-zero key bias was set to zero in {len(dropped)} blocks")


def _supply_periods(assembly: Assembly, architecture: Architecture) -> None:
    exact = RotaryPositions(architecture.embed_dim // architecture.num_heads, architecture.rope_base).periods
    stored = assembly.tensors.get("rope_embed.periods")
    if stored is None:
        assembly.tensors["rope_embed.periods"] = exact
        assembly.new["rope_embed.periods"] = f"computed in float32, base {architecture.rope_base:g}"
        assembly.periods = "computed"
        return
    stored = stored.float()
    if not bool((stored > 0).all()):  # NaN is not above 0 either
        raise InputError("rope_embed.periods: expected positive numbers; the file is damaged")
    assembly.periods = "stored"
    if torch.equal(stored, exact.bfloat16().float()):
        assembly.periods = "stored (rounded to bfloat16)"
    elif not torch.allclose(stored, exact, rtol=_PERIOD_TOLERANCE, atol=0):
        assembly.warnings.append(f"rope_embed.periods are not those of base {architecture.rope_base:g}; kept as stored")


def _check_names(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = [key for key in expected if key not in tensors]
    if missing:
        raise InputError(f"{describe_keys(missing, 'missing')}; the file is incomplete")
    left_over = [key for key in tensors if key not in expected]
    if left_over:
        raise InputError(f"{describe_keys(left_over, 'unexpected')} for {len(expected)} in the model")


def _finished(key: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(tensor.shape) != shape:
        raise InputError(f"{key}: expected shape {shape}, found {tuple(tensor.shape)}")
    dtype = torch.int64 if holds_integers(key) else torch.float32
    tensor = tensor.to(device="cpu", dtype=dtype, copy=True, memory_format=torch.contiguous_format)
    if not bool(tensor.isfinite().all()):
        raise InputError(f"{key}: NaN or infinite values; the file is damaged")
    if key.endswith(POSITION_INDEX) and not torch.equal(tensor, _position_index(*shape)):
        raise InputError(f"{key}: not the places of a window in the table of positions; the file is damaged")
    return tensor


def _position_index(queries: int, keys: int) -> Tensor:
    return position_index(math.isqrt(queries), keys - queries)
