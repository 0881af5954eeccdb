"""A trained model as two small files to be passed on: NAME.safetensors in half precision, and NAME.yaml.

NAME.yaml is a config that builds the model, with the SHA-256 of the weights: a file that was damaged or exchanged is
refused.
"""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import LazyConfig
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from engine.config import load_config
from modeling.pretrained.weight_files import read_weights
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError
from runtime.files import hash_file, replacing


def write_shipped(checkpoint: Path, config_file: Path, folder: Path, name: str, size_limit: int | None = None) -> Path:
    """Write a run's weights and the config of its model into `folder`.

    Matrices and kernels become float16. Vectors (norms with their running statistics, biases, LayerScale) stay
    float32: they take little room, and half precision would flush small variances to zero.

    Args:
        checkpoint: of a run; with train.ema_decay its model is the average of the weights.
        config_file: of the run, its config.yaml.
        size_limit: largest number of bytes of the weights.

    Returns:
        The path of NAME.yaml.

    Raises:
        InputError: an unreadable file, a value that half precision cannot hold, or weights above the limit.
    """
    config = load_config(str(config_file))
    content = read_checkpoint(checkpoint)
    tensors = {key.removeprefix("module."): value for key, value in content["model"].items()}
    halved = {key: _halved(key, value) for key, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    with replacing(weights) as temporary:
        save_file(halved, temporary)
        if size_limit is not None and temporary.stat().st_size > size_limit:
            raise InputError(f"{weights}: {temporary.stat().st_size:,} bytes, expected at most {size_limit:,}")
    description = {
        "file": weights.name,
        "sha256": hash_file(weights),
        "parameters": sum(value.numel() for value in tensors.values()),
        "iteration": content.get("iteration"),
    }
    model = OmegaConf.to_container(config.model, resolve=True)
    shipped = OmegaConf.create({"model": model, "weights": description}, flags={"allow_objects": True})
    path = folder / f"{name}.yaml"
    with replacing(path) as temporary:
        LazyConfig.save(shipped, str(temporary))
    return path


def read_shipped(path: Path) -> tuple[DictConfig, dict[str, Any]]:
    """Config and checkpoint, as `modeling.weights.loading.load_model` takes it, of what `write_shipped` wrote.

    Raises:
        InputError: a file is missing, or the weights are not those that NAME.yaml was written with.
    """
    config = load_config(str(path))
    described = config.get("weights")
    if described is None or not {"file", "sha256"} <= set(described):
        raise InputError(f"{path}: expected the name and SHA-256 of its weights, as tools/export_box.py writes them")
    weights = path.parent / Path(described.file).name
    if not weights.is_file():
        raise InputError(f"{weights}: expected the weights of {path}, found no such file")
    found = hash_file(weights)
    if found != described.sha256:
        raise InputError(
            f"{weights}: expected SHA-256 {described.sha256}, got {found}; the file is damaged or of another model"
        )
    tensors = read_weights(weights).checkpoint
    return config, {"model": {key: _single(value) for key, value in tensors.items()}}


def _halved(key: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value.contiguous()
    half = value.half()
    if not torch.isfinite(half).all():
        raise InputError(f"{key}: holds a value that float16 cannot, the largest is {value.abs().max():g}")
    return half.contiguous()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
