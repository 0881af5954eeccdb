"""Test weights for DiffMatte, a function of seed, name and shape; those that tests/goldens/diffmatte was made with.

They are chosen so that mistakes show: ReLUs see values of both signs, the time, the noisy alpha and the encoder's
features all move the result, and the norms that spectral normalisation divides by are near 1.3.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens" / "diffmatte"
SEED = 2312  # as in cases.json
NOISY_ALPHA = 6  # its channel in the decoder's input, which is the only one of 7 channels
LOUD = (".emb_layers.", ".time_embed.", ".mid_blk.")  # what brings in the time and the encoder's features
SMALL = ("pos_embed", "rel_pos_h", "rel_pos_w", "relative_position_bias_table")

Key = tuple[str, list[int], str]  # name, shape, dtype


def read_keys(variant: str) -> list[Key]:
    """The tensors of a published layout, "vits", "vits_1024", "vitb", "res34" or "swint", in the order of the model."""
    return json.loads((GOLDENS / f"keys_{variant}.json").read_text())["keys"]


def state(keys: Iterable[Key], part: str = "model.") -> dict[str, Tensor]:
    """The weights whose names start with `part`, under their names without it."""
    return {
        name.removeprefix(part): torch.from_numpy(weight(name, tuple(shape)))
        for name, shape, _ in keys
        if name.startswith(part)
    }


def weight(name: str, shape: tuple[int, ...], seed: int = SEED) -> np.ndarray:
    """One tensor, float32 or int64; `name` is the whole name in the published file."""
    layer, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "relative_position_index":
        return _window_index(*shape)
    return _values(layer, kind, shape, seed).astype(np.float32)


def _values(layer: str, kind: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    name = f"{layer}.{kind}"
    if kind == "running_var":
        return _random(name, seed).uniform(0.5, 1.5, shape)
    if kind in ("weight_u", "weight_v"):
        return _direction(name, shape[0], seed)
    values = _random(name, seed).standard_normal(shape)
    if kind in ("running_mean", "bias"):
        return 0.1 * values
    if len(shape) == 1:
        return 1 + 0.1 * values
    if kind in SMALL:
        return 0.3 * values
    fan_in = math.prod(shape[1:])
    values -= values.mean(tuple(range(1, values.ndim)), keepdims=True)
    if shape[1] == 7:
        values[:, NOISY_ALPHA] *= 4
    if any(part in name for part in LOUD):
        return values * (3 / fan_in**0.5)
    if kind != "weight_bar":
        return values / fan_in**0.5
    u, v = (_direction(f"{layer}.weight_{side}", size, seed) for side, size in (("u", shape[0]), ("v", fan_in)))
    return values * (1.7 / fan_in**0.5) + 1.3 * np.outer(u, v).reshape(shape)


def _window_index(queries: int, keys: int) -> np.ndarray:
    """Swin's index of relative positions, followed by a column for each prior token."""
    side = math.isqrt(queries)
    width = 2 * side - 1
    places = np.arange(queries)
    rows, columns = (np.subtract.outer(axis, axis) + side - 1 for axis in (places // side, places % side))
    priors = np.broadcast_to(np.arange(width**2, width**2 + keys - queries), (queries, keys - queries))
    return np.hstack([rows * width + columns, priors]).astype(np.int64)


def _direction(name: str, size: int, seed: int) -> np.ndarray:
    vector = _random(name, seed).standard_normal(size)
    return vector / np.linalg.norm(vector)


def _random(name: str, seed: int) -> np.random.RandomState:  # numpy keeps the streams of RandomState as they are
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, np.uint32))
