"""Test weights for Deep Image Matting, a function of seed, name and shape; tests/goldens/dim was made with them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens" / "dim"
SEED = 11  # as in cases.json


def published(variant: str, seed: int = SEED) -> dict[str, Tensor]:
    """The tensors of MMagic's layout, "vgg16" or "vgg16_bn", under their published names."""
    keys = json.loads((GOLDENS / f"keys_{variant}.json").read_text())
    return {name: torch.from_numpy(weight(name, tuple(shape), seed)) for name, shape, _ in keys}


def our_name(key: str) -> str:
    """A published name in this project's model."""
    for theirs, ours in (("backbone.encoder.", "backbone."), ("backbone.decoder.", "decoder.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of names and values in sorted order, which cases.json holds."""
    total = hashlib.sha256()
    for key in sorted(state):
        total.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return total.hexdigest()


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One tensor, float32 or int64; numpy keeps the streams of RandomState as they are."""
    random = np.random.RandomState(np.frombuffer(hashlib.sha256(f"{seed}:{name}".encode()).digest(), "<u4"))
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    values = np.asarray(random.standard_normal(shape))
    if kind in ("bias", "running_mean"):
        values = 0.1 * values
    elif len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        values = _gain(name) * values / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32).reshape(shape)


def _gain(name: str) -> float:
    """Of a kernel before a ReLU; an unpooling leaves one value in four, and deconv1 gives the raw alpha."""
    if "deconv1." in name:
        return np.sqrt(2) * 0.2
    return np.sqrt(2) * (2 if "deconv" in name else 1)
