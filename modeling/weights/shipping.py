"""Export of a trained model as the two files that `modeling.weights.shipped` reads."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modeling.weights.checkpoint_file import CONFIG_ENTRY, read_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from runtime.errors import InputError
from runtime.files import hash_file, replacing


def write_shipped(checkpoint: Path, folder: Path, name: str, size_limit: int | None = None) -> Path:
    """Write the weights of a run's checkpoint and the description of its network into `folder`.

    Matrices and kernels become float16. Vectors (norms with their running statistics, biases, LayerScale) stay float32,
    because they are small and half precision would round small variances to zero.

    Args:
        checkpoint: checkpoint of a run; with train.ema_decay its model is the average of the weights.
        size_limit: largest number of bytes of the weights.

    Returns:
        The path of NAME.json.

    Raises:
        InputError: an unreadable checkpoint, or one without a description of its network; a value outside the range of
            half precision; weights above the limit.
    """
    content = read_checkpoint(checkpoint)
    if CONFIG_ENTRY not in content:
        raise InputError(f"{checkpoint}: expected a checkpoint that describes its network, as main.py writes it")
    model = build_model(content, checkpoint)
    load_model(model, content, checkpoint)  # frozen weights are in another file
    tensors = model.state_dict()
    halved = {key: _halved(key, value) for key, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{name}.safetensors"
    with replacing(weights) as temporary:
        save_file(halved, temporary)
        if size_limit is not None and temporary.stat().st_size > size_limit:
            raise InputError(f"{weights}: {temporary.stat().st_size:,} bytes, expected at most {size_limit:,}")
    description = {
        "weights": weights.name,
        "sha256": hash_file(weights),
        "parameters": sum(value.numel() for value in tensors.values()),
        "iteration": content.get("iteration"),
        "metadata": content.get("metadata", {}),
        CONFIG_ENTRY: content[CONFIG_ENTRY],
    }
    path = folder / f"{name}.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return path


def _halved(key: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value.contiguous()
    half = value.half()
    if not torch.isfinite(half).all():
        raise InputError(f"{key}: contains a value that float16 cannot represent, the largest is {value.abs().max():g}")
    return half.contiguous()
