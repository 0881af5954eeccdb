"""Model of a config with the weights of a checkpoint. If they do not match, the message names a config that does."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from engine.config import build, describe_model, load_config
from modeling.meta_arch import System
from modeling.outline import outlines
from modeling.weights.checkpoint_file import CONFIG_ENTRY
from modeling.weights.frozen import with_frozen_weights
from modeling.weights.loading import WrongModelError, load_model
from modeling.weights.shipped import read_model_file
from runtime.errors import InputError
from runtime.text import name_some

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHOWN_SETTINGS = 3

Shapes = dict[str, tuple[int, ...]]


def trained_model(config: DictConfig, checkpoint_file: str | Path, config_file: str | Path) -> System:
    """Build the config's model and load a checkpoint into it.

    Args:
        config: config, with its overrides applied.
        checkpoint_file: checkpoint of a run or of preprocess.py (.pth), or a shipped model (.json).
        config_file: path of the config, for messages.

    Raises:
        InputError: see `read_model_file`, `build` and `load_model`. For a checkpoint of another model, the message
            names the configs of this project with that model or, if there are none, the settings that differ.

    Example:
        config = load_config("configs/ViTMatte_demo.py")
        model = trained_model(config, "output/demo/run/model_final.pth", "configs/ViTMatte_demo.py").eval()
    """
    checkpoint = read_model_file(checkpoint_file)
    model = build(config.model)
    try:
        load_model(model, checkpoint, checkpoint_file)
    except WrongModelError as error:
        advice = _advice(checkpoint, config, checkpoint_file)
        if not advice:
            raise
        raise InputError(f"{checkpoint_file}: does not fit the model of {config_file}; {advice}") from error
    return model


def _advice(checkpoint: Mapping[str, Any], config: DictConfig, path: str | Path) -> str:
    """Advice for a message: the configs or settings that match the checkpoint; "" if none are known."""
    description = checkpoint.get(CONFIG_ENTRY)
    names = list(_configs_of(with_frozen_weights(dict(checkpoint), path)["model"]))
    remedies = [f"its tensors are those of {name_some(names)}"] if names else []
    if isinstance(description, Mapping):
        if not names:
            remedies = [f"its model has {_differences(description, describe_model(config.model).get(CONFIG_ENTRY))}"]
        remedies.append("omit --config-file, because the checkpoint describes its model")
    return "; ".join(remedies)


def _configs_of(tensors: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """The configs of the project whose model has tensors of these names and shapes."""
    found = {key.removeprefix("module."): tuple(value.shape) for key, value in tensors.items()}
    for path in sorted(CONFIGS.glob("*.py")):
        if _shapes_of(path) == found:
            yield f"{CONFIGS.name}/{path.name}"


@cache
def _shapes_of(config_file: Path) -> Shapes:
    """Names and shapes of the tensors of a config's model."""
    with outlines():
        model = build(load_config(str(config_file)).model)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _differences(theirs: Any, ours: Any) -> str:
    """The first settings in which two descriptions differ, for a message."""
    first, second = dict(_settings(theirs)), dict(_settings(ours))
    differing = [key for key in {**first, **second} if first.get(key) != second.get(key)]
    shown = [
        f"{key} {first.get(key, 'unset')!s:.60} (the config: {second.get(key, 'unset')!s:.60})" for key in differing
    ]
    more = f" and {len(shown) - SHOWN_SETTINGS} other settings" if len(shown) > SHOWN_SETTINGS else ""
    return ", ".join(shown[:SHOWN_SETTINGS]) + more


def _settings(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _settings(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
