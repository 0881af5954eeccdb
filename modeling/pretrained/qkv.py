"""Query, key and value projections: joining them, and folding DINOv3's bias mask into the bias."""

from collections.abc import Mapping

import torch
from torch import Tensor

from runtime.errors import InputError


def join_weight(tensors: Mapping[str, Tensor], block: str, dim: int) -> Tensor:
    """Joint (3 dim, dim) projection of `block` ("blocks.0"), in the order query, key, value."""
    if f"{block}.attn.qkv.weight" in tensors:
        return tensors[f"{block}.attn.qkv.weight"]
    return torch.cat([_part(tensors, f"{block}.attn.{part}.weight", (dim, dim)) for part in "qkv"])


def join_bias(tensors: Mapping[str, Tensor], block: str, dim: int, has_key: bool = False) -> Tensor | None:
    """Joint (3 dim,) bias of `block`, zero for the key unless it `has_key`; None if there is none."""
    own = f"{block}.attn.qkv.bias"
    if own in tensors or f"{own}_mask" in tensors:
        return _part(tensors, own, (3 * dim,))
    if not {f"{block}.attn.{part}.bias" for part in "qkv"} & tensors.keys():
        return None
    query, value = (_part(tensors, f"{block}.attn.{part}.bias", (dim,)) for part in "qv")
    key = _part(tensors, f"{block}.attn.k.bias", (dim,)) if has_key else torch.zeros_like(query)
    return torch.cat([query, key, value])


def read_bias_mask(tensors: Mapping[str, Tensor], block: str, dim: int) -> Tensor | None:
    """(3 dim,) mask of the bias of `block`, None if there is none."""
    key = f"{block}.attn.qkv.bias_mask"
    return _part(tensors, key, (3 * dim,)) if key in tensors else None


def fold_bias_mask(bias: Tensor, mask: Tensor | None) -> tuple[Tensor, str, bool]:
    """Multiply DINOv3's `qkv.bias_mask` into the bias, for a model that has no mask.

    The mask is 1 for query and value and 0 for key. It is created as NaN, and values under its zeros were never
    trained, so 0 * NaN must be 0, and the key third is zero for every file. A key bias would change the attention,
    because it does not cancel in the softmax with rotary positions.

    Args:
        bias: (3 dim,), any float type.
        mask: (3 dim,), or None. A mask that is missing or contains NaN is replaced by 1, 0, 1.

    Returns:
        The effective bias (3 dim,) float32, a description of the treatment, and whether a key bias was dropped that the
        stored mask would have kept.
    """
    bias = bias.float()
    structural = torch.ones_like(bias)
    structural[len(bias) // 3 : 2 * len(bias) // 3] = 0
    if mask is None:
        return torch.where(structural == 0, 0.0, bias), "missing, 1 0 1 used", False
    if bool(mask.isnan().any()):
        return torch.where(structural == 0, 0.0, bias), "contains NaN, 1 0 1 used", False
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
