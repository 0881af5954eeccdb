"""Query, key and value projections: joined into one, and DINOv3's bias mask folded into the bias."""

from collections.abc import Mapping

import torch
from torch import Tensor

from runtime.errors import InputError


def join_weight(tensors: Mapping[str, Tensor], block: str, dim: int) -> Tensor:
    """Return the joint (3 dim, dim) projection of `block` ("blocks.0"), order query, key, value."""
    if f"{block}.attn.qkv.weight" in tensors:
        return tensors[f"{block}.attn.qkv.weight"]
    return torch.cat([_part(tensors, f"{block}.attn.{part}.weight", (dim, dim)) for part in "qkv"])


def join_bias(tensors: Mapping[str, Tensor], block: str, dim: int, has_key: bool = False) -> Tensor | None:
    """Return the joint (3 dim,) bias of `block`, its key third zero unless it `has_key`; None where it has none."""
    own = f"{block}.attn.qkv.bias"
    if own in tensors or f"{own}_mask" in tensors:
        return _part(tensors, own, (3 * dim,))
    if not {f"{block}.attn.{part}.bias" for part in "qkv"} & tensors.keys():
        return None
    query, value = (_part(tensors, f"{block}.attn.{part}.bias", (dim,)) for part in "qv")
    key = _part(tensors, f"{block}.attn.k.bias", (dim,)) if has_key else torch.zeros_like(query)
    return torch.cat([query, key, value])


def read_bias_mask(tensors: Mapping[str, Tensor], block: str, dim: int) -> Tensor | None:
    """Return the (3 dim,) mask of the bias of `block`, None where it has none."""
    key = f"{block}.attn.qkv.bias_mask"
    return _part(tensors, key, (3 * dim,)) if key in tensors else None


def fold_bias_mask(bias: Tensor, mask: Tensor | None) -> tuple[Tensor, str, bool]:
    """Multiply DINOv3's `qkv.bias_mask` into the bias, for a model that has no mask.

    The mask is 1 for query and value and 0 for key, but it is created as NaN, and what lies under its zeros was
    never trained: 0 * NaN must be 0, and the key third is zero whatever the file says. A key bias does change
    the attention here: with rotary positions it does not cancel in the softmax.

    Args:
        bias: (3 dim,), any float type.
        mask: (3 dim,), or None; one that is missing or holds NaN is taken as 1, 0, 1.

    Returns:
        The effective bias (3 dim,) float32, what was done in words, and whether a key bias that the stored mask
        would have let through was dropped.
    """
    bias = bias.float()
    structural = torch.ones_like(bias)
    structural[len(bias) // 3 : 2 * len(bias) // 3] = 0
    if mask is None:
        return torch.where(structural == 0, 0.0, bias), "missing, 1 0 1 taken", False
    if bool(mask.isnan().any()):
        return torch.where(structural == 0, 0.0, bias), "holds NaN, 1 0 1 taken", False
    mask = mask.float()
    folded = torch.where(mask == 0, 0.0, bias * mask)
    dropped = bool((folded[structural == 0] != 0).any())
    return torch.where(structural == 0, 0.0, folded), "folded as stored", dropped


def _part(tensors: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in tensors:
        raise InputError(f"{key} is missing; the file is incomplete")
    if tuple(tensors[key].shape) != shape:
        raise InputError(f"{key}: expected shape {shape}, found {tuple(tensors[key].shape)}")
    return tensors[key]
