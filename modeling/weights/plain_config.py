"""Config of a model in plain values, as in checkpoints; `modeling.weights.model_config` builds the model from it."""

import functools
from collections.abc import Mapping
from typing import Any

TARGET, PARTIAL = "_target_", "_partial_"


def plain_config(node: Any) -> Any:
    """Convert the config of a model to dicts, lists, numbers and texts.

    Args:
        node: nested dicts and lists whose `_target_` entries are classes or their names. An object may be a
            `functools.partial` of a class with keywords.

    Raises:
        ValueError: an object has no plain form.
    """
    if isinstance(node, Mapping):
        return {key: _path_of(value) if key == TARGET else plain_config(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain_config(item) for item in node]
    if isinstance(node, functools.partial) and not node.args:
        return {PARTIAL: _path_of(node.func), **plain_config(node.keywords)}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise ValueError(f"a {type(node).__name__} has no plain form")


def _path_of(target: Any) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, type):
        return f"{target.__module__}.{target.__qualname__}"
    raise ValueError(f"{target!r} is not a class")
