"""Loading of weights into a model. Every missing and every unexpected key is accounted for."""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from modeling.meta_arch import System
from modeling.pretrained.report import key_pattern
from modeling.weights.checkpoint_file import CONFIG_ENTRY
from modeling.weights.fitting import fit_pretrained
from modeling.weights.frozen import FROZEN_ENTRY, with_frozen_weights
from modeling.weights.relative_positions import is_table
from runtime.errors import InputError

logger = logging.getLogger("dinomatte.checkpoint")

METADATA_TOLERANCE = 1e-6


class WrongModelError(InputError):
    """A checkpoint whose tensors are not those of the model."""


def load_model(model: System, checkpoint: dict[str, Any], path: str | Path, *, pretrained: bool = False) -> None:
    """Copy the weights of `checkpoint` into `model`, either all or none.

    Args:
        model: model without wrappers such as DDP.
        checkpoint: result of `read_checkpoint`.
        path: path for messages.
        pretrained: whether the file may be an encoder from preprocess.py. Tensors may then be missing or unused as
            declared by the system (`System.starts_fresh`, `System.may_be_left_out`), and the trimap channels and the
            tables of relative positions may differ from the file (`fit_pretrained`); all differences are logged.
            Otherwise keys and shapes must match exactly.

    Raises:
        WrongModelError: keys or shapes do not match the model.
        InputError: preprocessing metadata does not match the model.
    """
    checkpoint = with_frozen_weights(checkpoint, path)
    state = {key.removeprefix("module."): value for key, value in checkpoint["model"].items()}
    expected = model.state_dict()
    if pretrained or FROZEN_ENTRY in checkpoint:
        state = _fitted(state, expected, path)
    _check_metadata(model, checkpoint.get("metadata") or {}, path)
    missing = [key for key in expected if key not in state]
    unused = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if pretrained and not state.keys() & expected.keys():
        raise InputError(f"{path}: contains no tensor of this config's model ({type(model).__name__})")
    fatal_missing = [key for key in missing if not (pretrained and model.starts_fresh(key))]
    fatal_unused = [key for key in unused if not (pretrained and model.may_be_left_out(key))]
    if fatal_missing or fatal_unused:
        _check_system(model, checkpoint, path)
    if fatal_missing or fatal_unused or shapes:
        problems = [
            f"{label}: {_abbreviated(keys)}"
            for label, keys in (("missing", fatal_missing), ("not in the model", fatal_unused), ("other shape", shapes))
            if keys
        ]
        if fatal_missing and pretrained and model.needs_weights:
            problems.append(model.needs_weights)
        if any(is_table(key.split()[0]) for key in shapes):
            problems.append("for crops of another size; set model.backbone.img_size, or convert with --img-size")
        raise WrongModelError(f"{path}: not a checkpoint of this config's model; {'; '.join(problems)}")
    model.load_state_dict(state, strict=False)
    logger.info("%s: loaded %d of %d tensors of the model", path, len(expected) - len(missing), len(expected))
    if missing:
        logger.info("newly initialised: %s", _counted(missing))
    if unused:
        logger.info("in the file, but not used by the config: %s", _counted(unused))


def _check_system(model: System, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Refuse a checkpoint of another system; the message names it."""
    description = checkpoint.get(CONFIG_ENTRY)
    target = description.get("_target_") if isinstance(description, dict) else None
    theirs, ours = str(target).rpartition(".")[2], type(model).__name__
    if target is not None and theirs != ours:
        raise WrongModelError(
            f"{path}: holds a {theirs[:80]}, the config's model is a {ours}; give the config of its run"
        )


def _fitted(state: dict[str, Tensor], expected: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    try:
        return fit_pretrained(state, expected)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_metadata(model: System, metadata: dict[str, Any], path: str | Path) -> None:
    for name, ours in model.metadata().items():
        theirs = metadata.get(name)
        if theirs is None:
            continue
        if not _agree(theirs, ours):
            value = str(theirs).replace(" ", "")
            is_eps = name == "layer_norm_eps"
            setting = (
                f"norm_layer=partial(nn.LayerNorm, eps={value}) in its backbone" if is_eps else f"model.{name}={value}"
            )
            raise InputError(f"{path}: its weights need {name} {value}, the config has {ours}; set {setting}")


def _agree(theirs: Any, ours: Any) -> bool:
    try:
        return bool(np.allclose(theirs, ours, rtol=METADATA_TOLERANCE, atol=0))
    except (TypeError, ValueError):  # not numbers, or a different number of them
        return False


def _counted(names: Iterable[str]) -> str:
    """All of the names. Those that differ only by an index are counted together."""
    return ", ".join(f"{pattern} x{count}" for pattern, count in Counter(map(key_pattern, names)).items())


def _abbreviated(names: Iterable[str], limit: int = 2) -> str:
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
