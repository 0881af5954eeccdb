"""A trained model as two small files for distribution: NAME.safetensors in half precision, and NAME.json.

`modeling.weights.shipping` writes them. NAME.json describes the network in plain values, which can only name networks
of this project, and has the SHA-256 of the weights. Damaged or exchanged weights are refused.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from modeling.pretrained.weight_files import read_weights
from modeling.weights.checkpoint_file import CONFIG_ENTRY, read_checkpoint
from runtime.errors import InputError
from runtime.files import hash_file

LARGEST_DESCRIPTION = 2**20  # bytes
BOX = Path(__file__).resolve().parents[2] / "weights" / "box" / "matting.json"  # the model in the box


def read_shipped(path: Path) -> dict[str, Any]:
    """Read the files of `write_shipped` as a checkpoint in float32.

    Returns:
        A checkpoint like that of `read_checkpoint`, for `modeling.weights.model_config.build_model` and
        `modeling.weights.loading.load_model`.

    Raises:
        InputError: a file is missing or is not a description, or the weights do not match the description.

    Example:
        >>> checkpoint = read_shipped(BOX)
        >>> sorted(checkpoint), len(checkpoint["model"]) > 100
        (['config', 'metadata', 'model'], True)
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
    """Checkpoint of a run or of preprocess.py (.pth), or a shipped model (.json), depending on the suffix.

    Raises:
        InputError: see `read_checkpoint` and `read_shipped`.
    """
    return read_shipped(Path(path)) if Path(path).suffix == ".json" else read_checkpoint(path)


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
