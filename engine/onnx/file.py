"""ONNX file of tools/export_onnx.py, opened in onnxruntime. This module needs only numpy and onnxruntime.

The file is untrusted. It is checked before onnxruntime reads it, and it must be self-contained: a file that refers to
tensors in other files is refused.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engine.onnx.packages import onnx_package
from engine.onnx.wire import read_outline
from runtime.errors import InputError
from runtime.text import one_line

FORMAT = "1"  # version of inputs, outputs and metadata; files of other versions are refused
PREFIX = "dinomatte."  # prefix of this project's keys in the file's metadata
MAX_BYTES = 2**31 - 1  # protobuf's own limit
INPUTS = {"image": 3, "trimap": 1}  # channels of (B, channels, H, W) float32
OUTPUTS = {"phas": 1}
METADATA = ("config", "checkpoint", "precision", "size_divisibility", "pixel_mean", "colour_prior", "footprint")
EXECUTION = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


class OnnxFile:
    """A checked file and its session.

    Args:
        path: file from tools/export_onnx.py.
        threads: number of threads of onnxruntime; 0 for its default.
        device: "cpu", "cuda", or None for the best device of the installed onnxruntime.
        gpu: index of the GPU for "cuda".

    Attributes:
        inputs, outputs: names of the pictures that are read and predicted, as those of a `System`.
        runs_on: "cpu" or "cuda".
        metadata: texts by the names in `METADATA`.
        size_divisibility: multiple to which the graph pads the sides of images.
        pixel_mean: mean RGB colour on the scale 0 to 1.
        footprint: bytes per pixel, and bytes per squared pixel of attention.

    Raises:
        InputError: onnxruntime is not installed or lacks the device, or the file is not from that tool.
    """

    inputs = ("image", "trimap")
    outputs = ("alpha",)

    def __init__(self, path: str | Path, threads: int = 0, device: str | None = None, gpu: int = 0) -> None:
        self.path = path
        runtime = onnx_package("onnxruntime")
        self.runs_on = _execution_device(runtime, device)
        content = _read(path)
        self.metadata = _checked_metadata(path, content)
        self.size_divisibility = _number(path, self.metadata, "size_divisibility")
        self.pixel_mean = _numbers(path, self.metadata, "pixel_mean", 3)
        self.footprint = _numbers(path, self.metadata, "footprint", 2)
        self.session = _session(runtime, path, content, threads, self.runs_on, gpu)
        _check_signature(path, self.session)

    def run(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """Alpha (B, 1, H, W) float32 in [0, 1].

        Args:
            image: (B, 3, H, W) float32 RGB in [0, 1].
            trimap: (B, 1, H, W) float32 of 0, 0.5 and 1.

        Raises:
            MemoryError: onnxruntime could not allocate enough memory.
            InputError: the graph fails on this input.
        """
        feeds = {"image": np.ascontiguousarray(image), "trimap": np.ascontiguousarray(trimap)}
        try:
            (phas,) = self.session.run(list(OUTPUTS), feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class
            reason = one_line(error)[:200]
            if "alloc" in reason.lower():
                raise MemoryError(reason) from error
            raise InputError(f"{self.path}: onnxruntime cannot run it: {reason}") from error
        if phas.shape != trimap.shape:
            raise InputError(f"{self.path}: expected phas of shape {trimap.shape}, got {phas.shape}")
        return phas


def _execution_device(runtime: ModuleType, device: str | None) -> str:
    available = [name for name, provider in EXECUTION.items() if provider in runtime.get_available_providers()]
    if device in (None, "", "auto"):
        return available[0]
    if device not in available:
        raise InputError(f"device {device!r}: the installed onnxruntime has {' and '.join(available)}")
    return device


def _read(path: str | Path) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected an ONNX file, found {'a folder' if path.is_dir() else 'nothing'}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size:,} bytes is over the limit of {MAX_BYTES:,} for an ONNX file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _checked_metadata(path: str | Path, content: bytes) -> dict[str, str]:
    """Check that the file is complete, self-contained and from this project, and return its metadata."""
    try:
        outline = read_outline(content)
    except ValueError as error:
        raise InputError(f"{path}: not an ONNX file, or a truncated one") from error
    if not outline.num_nodes:
        raise InputError(f"{path}: not an ONNX file, or one without a graph")
    if outline.has_external_data:
        raise InputError(f"{path}: stores tensors in other files, which is refused; export it again as a single file")
    metadata = {key.removeprefix(PREFIX): value for key, value in outline.metadata.items() if key.startswith(PREFIX)}
    if metadata.get("format") != FORMAT:
        found = f"is of format {metadata['format'][:20]!r}" if "format" in metadata else "has no such metadata"
        raise InputError(f"{path}: expected a model of format {FORMAT} from tools/export_onnx.py; this one {found}")
    missing = [key for key in METADATA if key not in metadata]
    if missing:
        raise InputError(f"{path}: its metadata lacks {', '.join(missing)}; export it again with tools/export_onnx.py")
    return metadata


def _number(path: str | Path, metadata: dict[str, str], key: str) -> int:
    value = metadata[key]
    if not value.isdecimal() or not 1 <= int(value[:9]) <= 4096:
        raise InputError(f"{path}: metadata {key}: expected a number from 1 to 4096, found {value[:40]!r}")
    return int(value)


def _numbers(path: str | Path, metadata: dict[str, str], key: str, count: int) -> list[float]:
    text = metadata[key]
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all() or min(values) < 0:
        raise InputError(f"{path}: metadata {key}: expected {count} numbers, found {text[:40]!r}")
    return values


def _session(runtime: ModuleType, path: str | Path, content: bytes, threads: int, device: str, gpu: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, and reported in one line
    settings = {"cuda": {"device_id": gpu}}
    providers = [(EXECUTION[name], settings.get(name, {})) for name in dict.fromkeys((device, "cpu"))]
    try:
        return runtime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise InputError(f"{path}: onnxruntime cannot load it: {one_line(error)[:200]}") from error


def _check_signature(path: str | Path, session: Any) -> None:
    for kind, expected, found in (
        ("inputs", INPUTS, session.get_inputs()),
        ("outputs", OUTPUTS, session.get_outputs()),
    ):
        if {value.name: _channels(value) for value in found} != expected:
            names = ", ".join(f"{value.name} {value.type} {value.shape}" for value in found)
            wanted = ", ".join(f"{name} float (B, {channels}, H, W)" for name, channels in expected.items())
            raise InputError(f"{path}: expected the {kind} {wanted}; found {names[:200]}")


def _channels(value: Any) -> int | None:
    """Channels of a float tensor whose batch, height and width are free; None for anything else."""
    shape = value.shape
    is_free = len(shape) == 4 and not any(isinstance(shape[axis], int) for axis in (0, 2, 3))
    return shape[1] if is_free and value.type == "tensor(float)" and isinstance(shape[1], int) else None
