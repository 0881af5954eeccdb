"""Test weights for DINOv2, a function of seed, name and shape; those that tests/goldens/dinov2 was made with.

They come in the three published layouts of one model: "official" (facebookresearch/dinov2), "huggingface", "timm".
"""

import functools
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[1] / "goldens" / "dinov2"
TOKENS = ("cls_token", "mask_token", "register_tokens", "pos_embed")

_HUGGINGFACE = [
    (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
]


def goldens() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "features.npz") as arrays:
        return dict(arrays)


def read_keys() -> dict:
    """Seed, hashes of the weights, and name -> shape of the published files."""
    return json.loads((GOLDENS / "keys.json").read_text())


@functools.cache
def state(name: str) -> dict[str, Tensor]:
    """The weights "plain" or "reg" (four registers) in the official layout, or of the "head".

    Raises:
        AssertionError: they are not those that the goldens were made with.
    """
    facts = read_keys()
    shapes = facts["keys"]["head_2_classes" if name == "head" else f"official_{name}"]
    arrays = {key: weight(key, tuple(shape), facts["seed"]) for key, shape in shapes.items()}
    total = hashlib.sha256()
    for key in sorted(arrays):
        total.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    assert total.hexdigest() == facts["weights_sha256"][name]
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def weight(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    words = np.frombuffer(hashlib.sha256(f"{seed}:{key}".encode()).digest(), "<u4")
    random = np.random.RandomState(words)  # frozen: the same numbers in every version
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    normal = np.asarray(random.standard_normal(shape))
    if kind == "gamma":
        value = 0.1 * (1 + 0.2 * normal)
    elif kind in TOKENS:
        value = 0.5 * normal
    elif kind in ("bias", "running_mean"):
        value = 0.1 * normal
    elif len(shape) == 1:
        value = 1 + 0.1 * normal
    else:
        value = (np.sqrt(2) if len(shape) == 4 else 1.0) * normal / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32).reshape(shape)


def in_layout(layout: str, official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official weights as another publisher's file holds them."""
    return {"official": dict, "huggingface": _to_huggingface, "timm": _to_timm}[layout](official)


def _to_huggingface(official: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for key, value in official.items():
        for pattern, replacement in _HUGGINGFACE:
            key = re.sub(pattern, replacement, key)
        if ".attn.qkv." in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                result[key.replace(".attn.qkv.", f".attention.attention.{name}.")] = part.clone()
        else:
            result[key] = value
    return result


def _to_timm(official: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {key: value for key, value in official.items() if key != "mask_token"}
    if "register_tokens" in result:
        result["reg_token"] = result.pop("register_tokens")
        result["cls_token"] = result["cls_token"] + result["pos_embed"][:, :1]
        result["pos_embed"] = result["pos_embed"][:, 1:].clone()
    return result
