"""Selection of the model's tensors in a checkpoint, with an account of every key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modeling.pretrained.key_layouts import KeyLayout, detect_layout, find_prefix, ignore_reason_outside
from runtime.errors import InputError

# Entries with weights, in order of preference. As in timm, averages come before the weights they are averages of.
_WRAPPERS = (
    *("teacher", "model_ema", "state_dict_ema", "ema_state_dict", "ema"),
    *("model", "model_state_dict", "state_dict", "module", "student"),
)
# Parts of names that FSDP, activation checkpointing and torch.compile insert
_INSERTED = re.compile(r"(?<![^.])(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
_FLAT = re.compile(r"(?:^|[._])flat_param(?:$|[._])")  # FSDP's tensor of many parameters
_MAX_NESTING = 3
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
POSITION_INDEX = ".attn.relative_position_index"
SHARDED = (
    "expected whole tensors, found one process's part of a sharded (FSDP) checkpoint ({found}); save the full "
    "state_dict (get_model_state_dict with StateDictOptions(full_state_dict=True, cpu_offload=True)) and convert that"
)
_SHOWN_KEYS = 3  # number of keys in an error message, which is one line


@dataclass(frozen=True)
class Selection:
    """A checkpoint divided into tensors that the model uses and entries that it does not.

    Args:
        layout: spelling of its keys.
        entry: entry that is used if there are several, such as "model_ema" or "ema.module"; "" without entries.
        prefix: text before the keys, "" for none.
        tensors: this project's name -> tensor as stored.
        mapped: source key -> this project's name.
        ignored: source key -> reason why it is dropped.
    """

    layout: KeyLayout
    entry: str
    prefix: str
    tensors: dict[str, Tensor]
    mapped: dict[str, str]
    ignored: dict[str, str]


def select(checkpoint: Mapping[str, Any]) -> Selection:
    """Find the backbone in a checkpoint, which may be wrapped, detect its layout and sort its keys.

    Raises:
        InputError: not a mapping of names to tensors, no supported ViT, a key that is neither known nor on the
            layout's list of ignored keys, or a tensor of an unsupported kind.
    """
    entry, entries, ignored = _unwrap(checkpoint)
    _refuse_flat(entries)
    plain = {key: _INSERTED.sub("", key) for key in entries}
    prefix = find_prefix(plain.values())
    layout = detect_layout([key.removeprefix(prefix) for key in plain.values() if key.startswith(prefix)])
    tensors, mapped, unknown = {}, {}, []
    for key, tensor in entries.items():
        inside, bare = plain[key].startswith(prefix), plain[key].removeprefix(prefix)
        name = layout.rename(bare) if inside else None
        reason = layout.ignore_reason(bare) if inside else None
        reason = reason or ignore_reason_outside(plain[key])
        if name in tensors:
            raise InputError(f"{key}: a second tensor for {name}; expected one")
        if name is not None:
            tensors[name] = _checked(key, tensor)
            mapped[key] = name
        elif reason is not None:
            ignored[key] = reason
        else:
            unknown.append(key)
    if unknown:
        raise InputError(
            f"{describe_keys(unknown, 'unknown')}; not a {layout.family} model in the {layout.name} layout as published"
        )
    return Selection(layout, entry, prefix, tensors, mapped, ignored)


def describe_keys(keys: list[str], what: str) -> str:
    """Name the first few of `keys` for a one-line message: "2 unknown tensors (a, b)"."""
    shown = ", ".join(key[:80] for key in keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
    return f"{len(keys)} {what} tensor{'s' * (len(keys) > 1)} ({shown})"


def holds_integers(key: str) -> bool:
    """Return whether a tensor has integers: the number of batches of a batch norm, or Swin's index of positions."""
    return key.endswith((".num_batches_tracked", POSITION_INDEX))


def _unwrap(checkpoint: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the path of the innermost name -> tensor mapping, the mapping, and the reasons for ignored entries."""
    ignored: dict[str, str] = {}
    path = ""
    for depth in range(_MAX_NESTING):
        if not isinstance(checkpoint, Mapping) or not all(isinstance(key, str) for key in checkpoint):
            raise InputError(f"expected a mapping from names to tensors, found {type(checkpoint).__name__}")
        wrapper = next((key for key in _WRAPPERS if _holds_tensors(checkpoint.get(key), _MAX_NESTING - depth)), None)
        if wrapper is None:
            break
        ignored |= {path + key: f"beside {wrapper!r}, which is used" for key in checkpoint if key != wrapper}
        path += f"{wrapper}."
        checkpoint = checkpoint[wrapper]
    entries = {key: value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    ignored |= {path + key: "not a tensor" for key in checkpoint if key not in entries}
    if not entries:
        raise InputError("expected a mapping from names to tensors, found no tensor in it")
    return path.removesuffix("."), entries, ignored


def _holds_tensors(value: Any, depth: int) -> bool:
    """Return whether a mapping or one within it has a tensor. An entry "ema" may also have only the settings of an
    average.
    """
    if not isinstance(value, Mapping) or depth == 0:
        return False
    return any(isinstance(item, Tensor) or _holds_tensors(item, depth - 1) for item in value.values())


def _refuse_flat(keys: Iterable[str]) -> None:
    if flat := next(filter(_FLAT.search, keys), None):
        raise InputError(SHARDED.format(found=flat[:80]))


def _checked(key: str, tensor: Tensor) -> Tensor:
    if type(tensor) not in (Tensor, nn.Parameter):  # a DTensor
        raise InputError(SHARDED.format(found=f"{key} is a {type(tensor).__name__}"))
    tensor = tensor.detach()
    is_integer = holds_integers(key) and tensor.dtype == torch.int64
    if tensor.layout is not torch.strided or not (tensor.dtype in _FLOATS or is_integer):
        raise InputError(f"{key}: expected floating-point weights, found {tensor.dtype} ({tensor.layout})")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{key}: claims {tensor.numel():,} values, but the file contains fewer; it is damaged")
    return tensor
