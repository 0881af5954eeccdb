"""Reading of published weight files, PyTorch's and safetensors, recognised by content, without running code in them."""

import argparse
import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from runtime.errors import InputError
from runtime.files import hash_file

MAX_BYTES = 32 * 2**30  # ViT-7B has 27 GB in float32; below the limit it gets a proper message
MAX_JSON_BYTES = 16 * 2**20
_HEAD_BYTES = 512
_CONFIG_TYPES = ("dinov3_vit", "dinov2", "dinov2_with_registers", "vitmatte")
_INDEX_HINT = "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFile:
    """Contents of a weight file, without interpretation.

    Args:
        checkpoint: contents of the file, usually name -> tensor. Tensors may be memory-mapped.
        sha256: hash of the file, or of the index if the weights are in shards.
        shards: file name -> sha256, empty for a single file.
        config: config.json beside it if it describes a DINOv3ViTModel, a DINOv2 model or a VitMatteForImageMatting.
        image_mean: image_mean of preprocessor_config.json beside it.
    """

    checkpoint: Any
    sha256: str
    shards: dict[str, str]
    config: dict[str, Any] | None = None
    image_mean: list[float] | None = None


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Read .pth, .safetensors or the index of sharded .safetensors, recognised by their first bytes.

    Raises:
        InputError: missing, empty, truncated, too large, not weights, or a pickle that would run code.
    """
    path = Path(path)
    head = _read_head(path)
    if head.lstrip().startswith(b"{"):
        checkpoint, shards = _read_sharded(path)
    elif _is_safetensors(head):
        checkpoint, shards = _read_safetensors(path), {}
    elif head.startswith((b"PK\x03\x04", b"\x80")):
        return WeightFile(_read_torch(path), hash_file(path), {})
    else:
        raise InputError(f"{path}: expected PyTorch or safetensors weights, found {_describe(head)}")
    return WeightFile(checkpoint, hash_file(path), shards, _read_config(path.parent), _read_image_mean(path.parent))


def _read_head(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: expected a weight file, found {'a folder' if path.is_dir() else 'nothing'}")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: the file is empty; download it again")
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size / 2**30:.0f} GiB is over the limit of {MAX_BYTES // 2**30} GiB")
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def _describe(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith(b"<"):
        return "an HTML or XML page; the download was refused or not signed in, get access and download again"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file itself (git lfs pull)"
    if b"\x00" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file"
    return "something else"


def _read_torch(path: Path) -> Any:
    is_zip = _check_archive(path)
    try:
        # argparse.Namespace is in DINO's and MAE's training checkpoints, for their command line. It runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write, for which we raise an error
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can raise anything
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise InputError(
                f"{path}: expected plain weights, found a pickle that needs {code[1]}; not loaded, for it could run "
                "code. Save its state_dict() alone"
            ) from error
        raise InputError(f"{path}: not a readable PyTorch file, truncated or of another kind") from error


def _check_archive(path: Path) -> bool:
    """Distinguish a zip archive from PyTorch's older format; refuse one whose contents exceed the file."""
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: a truncated or damaged archive; download it again") from error
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise InputError(f"{path}: expected PyTorch weights, found a zip archive of other files")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(
            f"{path}: expected PyTorch weights, found a compressed zip archive; PyTorch never writes these"
        )
    return True


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: a truncated or damaged safetensors file ({_line(error)}); download it again"
        ) from error


def _read_sharded(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    index = read_json(path)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, Mapping) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{path}: expected weights or {_INDEX_HINT}, found JSON without a weight_map")
    shards = sorted(set(weight_map.values()))
    if outside := [name for name in shards if Path(name).name != name]:
        raise InputError(f"{path}: expected shards in the same folder, found {outside[0]!r}")
    tensors: dict[str, torch.Tensor] = {}
    for name in shards:
        if not _is_safetensors(_read_head(path.parent / name)):
            raise InputError(f"{path.parent / name}: expected a safetensors shard, found another kind of file")
        tensors |= _read_safetensors(path.parent / name)
    if tensors.keys() != weight_map.keys():
        differing = sorted(tensors.keys() ^ weight_map.keys())
        raise InputError(f"{path}: index and shards differ in {len(differing)} tensors ({differing[0]}, ...)")
    return tensors, {name: hash_file(path.parent / name) for name in shards}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of limited size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: over {MAX_JSON_BYTES // 2**20} MiB of JSON")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not readable as JSON ({_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _read_config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    return config if config.get("model_type") in _CONFIG_TYPES else None  # timm writes a config.json of its own


def _read_image_mean(folder: Path) -> list[float] | None:
    path = folder / "preprocessor_config.json"
    mean = read_json(path).get("image_mean") if path.is_file() else None
    is_rgb = isinstance(mean, list) and len(mean) == 3 and all(isinstance(value, int | float) for value in mean)
    return mean if is_rgb else None


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
