"""Reading of published weight files of PyTorch and safetensors without running code in them."""

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

from modeling.pretrained.select import SHARDED
from runtime.errors import InputError
from runtime.files import hash_file, kind_of
from runtime.text import name_some

MAX_BYTES = 32 * 2**30  # ViT-7B has 27 GB in float32; below the limit it gets a proper message
MAX_JSON_BYTES = 16 * 2**20
TIMM_CONFIG = "pretrained_cfg"  # key of timm's config.json
_HEAD_BYTES = 512
_CONFIG_TYPES = ("dinov3_vit", "dinov2", "dinov2_with_registers", "vitmatte")
_INDEX_HINT = "model.safetensors.index.json"
# Names of weight files in folders of transformers and timm. The first that exists is read.
_FOLDER_NAMES = ("model.safetensors", _INDEX_HINT, "pytorch_model.bin", "pytorch_model.bin.index.json")
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")  # model-00001-of-00003.safetensors
_CHUNK_SUFFIX, _CHUNK_INDEX = ".distcp", ".metadata"  # files of torch.distributed.checkpoint
_TO_ONE_FILE = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} OUT.pth"


@dataclass(frozen=True)
class WeightFile:
    """Contents of a weight file, without interpretation.

    Args:
        path: path of the file, also if a folder was given.
        checkpoint: contents of the file, usually name -> tensor. Tensors may be mapped from the file.
        sha256: SHA-256 of the file, or of the index if the weights are in shards.
        shards: file name -> SHA-256; empty for a single file.
        config: config.json beside the file if it describes a DINOv3ViTModel, a DINOv2 model or a
            VitMatteForImageMatting, or is timm's.
        image_mean: image_mean of preprocessor_config.json beside the file.
    """

    path: Path
    checkpoint: Any
    sha256: str
    shards: dict[str, str]
    config: dict[str, Any] | None = None
    image_mean: list[float] | None = None


def read_weights(path: str | os.PathLike) -> WeightFile:
    """Read .pth, .safetensors, the index of shards, or a folder of transformers or timm with one of them.

    The kind of a file is detected from its first bytes and not from its suffix.

    Raises:
        InputError: the file is missing, empty, truncated or too large, has no weights, is one part of several, or is a
            pickle that would run code.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_in(path)
    _refuse_parts(path)
    head = _read_head(path)
    shards: dict[str, str] = {}
    if head.lstrip().startswith(b"{"):
        checkpoint, shards = _read_sharded(path)
    else:
        checkpoint = _read_one(path, head)
    if not shards and not _is_safetensors(head) and path.suffix != ".bin":  # JSON beside a .pth may be of another
        return WeightFile(path, checkpoint, hash_file(path), shards)
    config, image_mean = _read_config(path.parent), _read_image_mean(path.parent)
    return WeightFile(path, checkpoint, hash_file(path), shards, config, image_mean)


def _weights_in(folder: Path) -> Path:
    """Find the file with the weights of a folder.

    Raises:
        InputError: there is no such file, there are several, or the folder has the chunks of a distributed checkpoint.
    """
    for name in _FOLDER_NAMES:
        if (folder / name).is_file():
            return folder / name
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
    if any(path.suffix == _CHUNK_SUFFIX or path.name == _CHUNK_INDEX for path in files):
        _refuse_chunks(folder, folder)
    found = [path for path in files if path.suffix.lower() in _WEIGHT_SUFFIXES]
    if len(found) == 1:
        return found[0]
    snapshots = [path for path in folder.glob("snapshots/*") if path.is_dir()]  # Hugging Face's cache
    if not found and len(snapshots) == 1:
        return _weights_in(snapshots[0])
    names = f"{len(found)} weight files ({name_some(path.name for path in found)}); name one of them"
    raise InputError(
        f"{folder}: expected {_FOLDER_NAMES[0]} or {_INDEX_HINT} in the folder, found "
        f"{names if found else 'no weight file'}"
    )


def _refuse_parts(path: Path) -> None:
    """Refuse a file whose name shows that it is one part of the weights."""
    if path.suffix == _CHUNK_SUFFIX or path.name == _CHUNK_INDEX:
        _refuse_chunks(path, path.parent)
    shard = _SHARD.fullmatch(path.name)
    if shard is not None and int(shard[3]) > 1:
        index = path.with_name(f"{shard[1]}{shard[4]}.index.json")
        remedy = f"download the others and {index.name} too, and name the folder"
        raise InputError(
            f"{path}: expected all of the weights, found shard {int(shard[2])} of {int(shard[3])}; "
            f"{f'name {index}' if index.is_file() else remedy}"
        )


def _refuse_chunks(path: Path, folder: Path) -> None:
    raise InputError(
        f"{path}: expected one weight file, found the chunks of a distributed (FSDP) checkpoint; make one file of "
        f"them: {_TO_ONE_FILE.format(folder=folder)}"
    )


def _read_one(path: Path, head: bytes) -> Any:
    if _is_safetensors(head):
        return _read_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_torch(path)
    raise InputError(f"{path}: expected PyTorch or safetensors weights, found {_describe(head)}")


def _read_head(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: expected a weight file, found {kind_of(path)}")
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
            if code[1].startswith("torch.distributed"):  # a ShardedTensor or DTensor
                raise InputError(f"{path}: {SHARDED.format(found=code[1].rpartition('.')[2])}") from error
            raise InputError(
                f"{path}: expected plain weights, found a pickle that needs {code[1]}; not loaded, as it could run "
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
        shard = _read_one(path.parent / name, _read_head(path.parent / name))
        if not isinstance(shard, dict):
            raise InputError(f"{path.parent / name}: expected names and tensors, found a {type(shard).__name__}")
        tensors |= shard
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
    return config if config.get("model_type") in _CONFIG_TYPES or TIMM_CONFIG in config else None


def _read_image_mean(folder: Path) -> list[float] | None:
    path = folder / "preprocessor_config.json"
    mean = read_json(path).get("image_mean") if path.is_file() else None
    is_rgb = isinstance(mean, list) and len(mean) == 3 and all(isinstance(value, int | float) for value in mean)
    return mean if is_rgb else None


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
