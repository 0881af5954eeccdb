"""Frozen parameters: `train.freeze` names them by role or by pattern."""

import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from modeling.meta_arch import System
from runtime.errors import InputError

logger = logging.getLogger("dinomatte.training")

ROLES = ("pretrained", "tokens", "head", "new")  # see ParameterRoles; "pretrained" are its layers
FIRST_BLOCKS = re.compile(r"first_(\d+)")


def freeze(model: System, names: str | Sequence[str]) -> list[str]:
    """Freeze parameters of `model`; modules that are frozen as a whole stay in eval mode.

    Args:
        names: roles ("pretrained", "tokens", "head", "new"), "first_8" for the pretrained embeddings and the first
            eight blocks, parts ("backbone", "backbone.blocks.0") or patterns of parameter names with * and ?
            ("backbone.*.weight").

    Returns:
        The names of the frozen parameters.

    Raises:
        InputError: a name fits no parameter, or nothing is left to train.

    Example:
        >>> from modeling.weights.system_file import read_system
        >>> model = read_system()
        >>> frozen = freeze(model, ["backbone"])
        >>> any(parameter.requires_grad for parameter in model.backbone.parameters())
        False
    """
    names = [names] if isinstance(names, str) else names
    parameters = dict(model.named_parameters())
    frozen: dict[str, nn.Parameter] = {}
    for name in names:
        chosen = _chosen(model, parameters, name)
        if not chosen:
            parts = ", ".join(child for child, _ in model.named_children())
            raise InputError(
                f"train.freeze: expected a role ({', '.join(ROLES)}), first_N, a part of the model ({parts}) or a "
                f"pattern, got {name!r}, which fits no parameter"
            )
        frozen.update(chosen)
    if names and len(frozen) == len(parameters):
        raise InputError(f"train.freeze: {', '.join(names)} leaves no parameter to train")
    if frozen:
        model.freeze(frozen.values())
        logger.info("frozen: %d of %d parameters (%s)", len(frozen), len(parameters), ", ".join(names))
    return list(frozen)


def _chosen(model: System, parameters: dict[str, nn.Parameter], name: str) -> dict[str, nn.Parameter]:
    if name in ROLES:
        roles = model.parameter_roles()
        members = {"pretrained": roles.layers, "tokens": roles.tokens, "head": roles.head, "new": roles.new}[name]
        return {key: parameter for key, parameter in parameters.items() if parameter in members}
    if first := FIRST_BLOCKS.fullmatch(name):
        layers = model.parameter_roles().layers
        depth = max(layers.values(), default=0)
        if int(first[1]) > depth:
            raise InputError(f"train.freeze: expected at most first_{depth}, the number of blocks, got {name!r}")
        return {
            key: parameter for key, parameter in parameters.items() if layers.get(parameter, depth + 1) <= int(first[1])
        }
    return {
        key: parameter
        for key, parameter in parameters.items()
        if key == name or key.startswith(f"{name}.") or fnmatchcase(key, name)
    }
