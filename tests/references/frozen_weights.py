"""Test weights for the frozen system's decoder, a function of seed, name and shape, as for tests/goldens/frozen_dinov3.

The goldens are numbers of nikhiliit/Dinov3_matting (commit f288276) on these weights; names that start with OURS_ are
restated for rectangles, which that code cannot do.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens" / "frozen_dinov3"
ARRAYS = np.load(GOLDENS / "golden_frozen.npz")
NUMBERS = json.loads((GOLDENS / "golden_frozen.json").read_text())
REFINER = "boundary_refiner"


def state(part: str, seed: int = NUMBERS["seed"]) -> dict[str, Tensor]:
    """The tensors of a published layout, "decoder_384" and so on or "boundary_refiner", under their published names."""
    keys = json.loads((GOLDENS / f"keys_{part}.json").read_text())
    return {key: tensor(seed, key, facts["shape"]) for key, facts in keys.items()}


def our_state(width: int, refined: bool = False) -> dict[str, Tensor]:
    """The same under the names of FeatureDecoder."""
    tensors = {key.removeprefix("decoder."): value for key, value in state(f"decoder_{width}").items()}
    return tensors | (state(REFINER) if refined else {})


def tensor(seed: int, key: str, shape: list[int]) -> Tensor:
    words = np.frombuffer(hashlib.sha256(f"{seed}:{key}".encode()).digest(), "<u4")
    random = np.random.RandomState(words)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if leaf == "running_var":
        return torch.from_numpy(random.uniform(0.5, 1.5, shape).astype(np.float32))
    normal = np.asarray(random.standard_normal(shape))
    if leaf == "sharpening_weight":
        values = 0.1 * (1 + 0.2 * normal)
    elif leaf in ("bias", "running_mean"):
        values = 0.1 * normal
    elif len(shape) == 1:  # the weight of a norm
        values = 1 + 0.1 * normal
    else:
        values = np.sqrt(2) * normal / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.array(values, np.float32).reshape(shape))


def digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names and bytes in sorted order."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        total.update(key.encode() + tensors[key].numpy(force=True).tobytes())
    return total.hexdigest()
