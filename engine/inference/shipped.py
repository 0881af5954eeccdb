"""A trained model as two small files to be passed on: NAME.safetensors in half precision, and NAME.json.

NAME.json describes the network in plain values, from which only networks of this project can be built, and holds the
SHA-256 of the weights: a file that was damaged or exchanged is refused.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from modeling.pretrained.weight_files import read_weights
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import CONFIG_ENTRY, build_model
from runtime.errors import InputError
from runtime.files import hash_file, replacing

LARGEST_DESCRIPTION = 2**20  # bytes
BOX = Path(__file__).resolve().parents[2] / "weights" / "box" / "matting.json"  # the model in the box


def write_shipped(checkpoint: Path, folder: Path, name: str, size_limit: int | None = None) -> Path:
    """Write the weights of a run's checkpoint, and the description of its network, into `folder`.

    Matrices and kernels become float16. Vectors (norms with their running statistics, biases, LayerScale) stay
    float32: they take little room, and half precision would flush small variances to zero.

    Args:
        checkpoint: of a run; with train.ema_decay its model is the average of the weights.
        size_limit: largest number of bytes of the weights.

    Returns:
        The path of NAME.json.

    Raises:
        InputError: an unreadable checkpoint, or one that does not describe its network; a value that half precision
            cannot hold; weights above the limit.
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


def read_shipped(path: Path) -> dict[str, Any]:
    """A checkpoint of what `write_shipped` wrote, in float32.

    Returns:
        What `read_checkpoint` gives: for `modeling.weights.model_config.build_model` and
        `modeling.weights.loading.load_model`.

    Raises:
        InputError: a file is missing or no description, or the weights are not those that it was written with.

    Example:
        >>> checkpoint = read_shipped(Path("weights/box/matting.json"))
        >>> model = build_model(checkpoint, "matting.json")
        >>> load_model(model, checkpoint, "matting.json")
    """
    description = _description(path)
    weights = path.parent / Path(description["weights"]).name
    if not weights.is_file():
        raise InputError(f"{weights}: expected the weights of {path}, found no such file")
    found = hash_file(weights)
    if found != description["sha256"]:
        raise InputError(
            f"{weights}: expected SHA-256 {description['sha256']}, got {found}; the file is damaged or of another model"
        )
    tensors = {key: _single(value) for key, value in read_weights(weights).checkpoint.items()}
    return {"model": tensors, CONFIG_ENTRY: description[CONFIG_ENTRY], "metadata": description.get("metadata", {})}


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > LARGEST_DESCRIPTION:
        raise InputError(f"{path}: expected the description of a model, found no such file or a large one")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected the description of a model, found no JSON: {error}") from error
    texts = ("weights", "sha256")
    if not isinstance(description, dict) or not all(isinstance(description.get(key), str) for key in texts):
        raise InputError(f"{path}: expected the name and SHA-256 of its weights, as tools/export_box.py writes them")
    if not isinstance(description.get(CONFIG_ENTRY), dict) or not isinstance(description.get("metadata", {}), dict):
        raise InputError(f"{path}: expected a description of its network, as tools/export_box.py writes it")
    return description


def read_model_file(path: str | Path) -> dict[str, Any]:
    """A checkpoint of a run or of preprocess.py (.pth), or a shipped model (.json), by the suffix.

    Raises:
        InputError: see `read_checkpoint` and `read_shipped`.
    """
    return read_shipped(Path(path)) if Path(path).suffix == ".json" else read_checkpoint(path)


def _halved(key: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value.contiguous()
    half = value.half()
    if not torch.isfinite(half).all():
        raise InputError(f"{key}: holds a value that float16 cannot, the largest is {value.abs().max():g}")
    return half.contiguous()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
