"""Models in ONNX files of tools/export_onnx.py, run by onnxruntime without PyTorch's model code.

The file is untrusted. It is parsed before onnxruntime reads it, and it must contain all of its tensors. A file that
refers to other files is refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.onnx.packages import onnx_package
from modeling.meta_arch.base import System
from modeling.meta_arch.footprint import Footprint
from runtime.errors import InputError
from runtime.text import one_line

FORMAT = "1"  # format of inputs, outputs and metadata; files of other formats are refused
PREFIX = "dinomatte."  # prefix of the keys in the file's metadata
MAX_BYTES = 2**31 - 1  # protobuf's own limit
INPUTS = {"image": 3, "trimap": 1}  # channels of (B, channels, H, W) float32
OUTPUTS = {"phas": 1}
METADATA = ("config", "checkpoint", "precision", "size_divisibility", "pixel_mean", "colour_prior", "footprint")
EXECUTION = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True)
class OnnxFootprint(Footprint):
    """Peak memory of a file's graph, whose decoder is dense and whose attention stores the weights of all pairs.

    Attributes:
        attention: bytes per squared pixel.
    """

    attention: float = 0

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        return super().whole(pixels, encoder_scale) + int(self.attention * (pixels / encoder_scale**2) ** 2)


class OnnxModel(System):
    """Maps {"image": (B, 3, H, W) float RGB in [0, 1], "trimap": (B, 1, H, W) of 0, 0.5, 1} to {"phas"} on the CPU.

    It takes any H, W >= 1. The file includes padding, normalisation and the fusion with the trimap.

    Args:
        path: file of tools/export_onnx.py.
        threads: number of threads of onnxruntime; None for the number of PyTorch's.
        device: "cpu", "cuda", or None for the best that the installed onnxruntime supports.

    Raises:
        InputError: onnxruntime is not installed or lacks the device, or the file is not one of this tool.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str | None = None) -> None:
        super().__init__()
        self.path = path
        runtime = onnx_package("onnxruntime")
        self.runs_on = _execution_device(runtime, device)  # inputs and outputs are on the CPU
        content = _read(path)
        metadata = _checked_metadata(path, content)
        self.file_metadata = metadata
        self.precision = metadata["precision"]
        self.size_divisibility = _number(path, metadata, "size_divisibility")
        self.depends_on_padding = metadata["colour_prior"] == "yes"  # the prior reads the whole image
        self.pixel_mean = torch.tensor(_numbers(path, metadata, "pixel_mean", 3))
        self.bytes_per_pixel, self.attention_bytes = _numbers(path, metadata, "footprint", 2)
        self.session = _session(runtime, path, content, threads or torch.get_num_threads(), self.runs_on)
        _check_signature(path, self.session)
        self.eval()

    @property
    def padding_colour(self) -> Tensor:
        return self.pixel_mean

    def footprint(self) -> Footprint:
        return OnnxFootprint(self.bytes_per_pixel, attention=self.attention_bytes)

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Mapping[str, Tensor]:
        """Return the inputs, because `decode` runs the whole graph."""
        return inputs

    def decode(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph.

        Raises:
            MemoryError: onnxruntime could not allocate its memory.
            InputError: the graph fails on this input.
        """
        feeds = {name: np.ascontiguousarray(state[name].float().cpu().numpy()) for name in INPUTS}
        try:
            (phas,) = self.session.run(list(OUTPUTS), feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class
            reason = one_line(error)[:200]
            if "alloc" in reason.lower():
                raise MemoryError(reason) from error
            raise InputError(f"{self.path}: onnxruntime cannot run it: {reason}") from error
        if phas.shape != feeds["trimap"].shape:
            raise InputError(f"{self.path}: phas comes out as {phas.shape}, expected {feeds['trimap'].shape}")
        return {"alpha": torch.from_numpy(phas)}


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
    """Metadata of the file under `PREFIX`, after a check that it is complete and self-contained."""
    onnx = onnx_package("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError is not part of its public interface
        raise InputError(f"{path}: not an ONNX file, or a truncated one") from error
    if not model.graph.node:
        raise InputError(f"{path}: not an ONNX file, or one without a graph")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(model)):
        raise InputError(f"{path}: keeps tensors in other files, which is refused; export it again as a single file")
    entries = ((entry.key, entry.value) for entry in model.metadata_props)
    metadata = {key.removeprefix(PREFIX): value for key, value in entries if key.startswith(PREFIX)}
    if metadata.get("format") != FORMAT:
        found = f"is of format {metadata['format'][:20]!r}" if "format" in metadata else "has no such metadata"
        raise InputError(f"{path}: expected a model of format {FORMAT} from tools/export_onnx.py; this one {found}")
    missing = [key for key in METADATA if key not in metadata]
    if missing:
        raise InputError(f"{path}: its metadata lacks {', '.join(missing)}; export it again with tools/export_onnx.py")
    return metadata


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor in a protobuf message at any depth: initializers, attributes, sub-graphs, functions."""
    if type(message).__name__ == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


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


def _session(runtime: ModuleType, path: str | Path, content: bytes, threads: int, device: str) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised and reported in one line
    providers = [EXECUTION[name] for name in dict.fromkeys((device, "cpu"))]
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
    """Channels of a float tensor whose batch, height and width are free; None for any other tensor."""
    shape = value.shape
    is_free = len(shape) == 4 and not any(isinstance(shape[axis], int) for axis in (0, 2, 3))
    return shape[1] if is_free and value.type == "tensor(float)" and isinstance(shape[1], int) else None
