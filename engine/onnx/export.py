"""Export of a ViTMatte to an ONNX file: traced, optionally reduced in precision, and compared with PyTorch.

The inputs are `image` (B, 3, H, W) float RGB in [0, 1] and `trimap` (B, 1, H, W) float of 0, 0.5 and 1. The output is
`phas` (B, 1, H, W) float in [0, 1], for any B, H, W >= 1. engine/onnx/model.py reads the file.
"""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.onnx.file import FORMAT, INPUTS, MAX_BYTES, OUTPUTS, PREFIX
from engine.onnx.model import OnnxModel
from engine.onnx.packages import onnx_package
from modeling.meta_arch import ViTMatte
from modeling.meta_arch.footprint import PICTURE_FLOATS
from runtime.errors import InputError, require_choice
from runtime.files import replacing

PRECISIONS = ("fp32", "fp16", "int8")
LOWEST_OPSET = 18  # opset of PyTorch's exporter, from which higher ones are converted
TOLERANCE = 1e-4  # largest difference of a float32 file from PyTorch
SINGLE = ("colour_prior", "rope_embed")  # parts that stay float32 in fp16: small differences of large numbers
ATTENTION_COPIES = 3  # copies of the N x N weights of one head: logits, with a bias, and after the softmax
LAYERS = ("MatMul", "Gemm")  # operators of linear layers
FLOAT = 1  # ONNX's number for float32
AXES = ("batch", "height", "width")


@dataclass(frozen=True)
class Difference:
    """Difference between a file and PyTorch at one size, over the unknown pixels, on the scale of alpha."""

    shape: tuple[int, int, int]  # batch, height, width
    largest: float
    mean: float


def export_onnx(
    model: ViTMatte,
    path: str | Path,
    *,
    config: str,
    checkpoint: str,
    precision: str = "fp32",
    opset: int = LOWEST_OPSET,
    check_shapes: Sequence[tuple[int, int, int]] | None = None,
) -> list[Difference]:
    """Write the file if it agrees with the model. If this fails, an existing file is unchanged.

    Args:
        model: model on the CPU in eval mode, with its weights.
        config, checkpoint: names for the file's metadata.
        precision: "fp32"; "fp16" for weights and most arithmetic in half precision; or "int8" for matrix products with
            8-bit weights and dynamically scaled activations. Inputs and outputs are always float32.
        opset: version of the standard ONNX operators.
        check_shapes: (B, H, W) for the comparison; by default three, one of them larger than the training crop.

    Returns:
        The differences at these sizes.

    Raises:
        InputError: a package is missing, the model has a part that cannot be exported, the file cannot be written or
            would exceed 2 GiB, or a float32 file differs from PyTorch by more than 1e-4.
    """
    if not isinstance(model, ViTMatte):
        raise InputError(f"cannot export a {type(model).__name__}: the ONNX format is defined for ViTMatte only")
    _check_options(precision, opset)
    graph = _traced(model.traceable().eval(), _generic_shape(model), opset)
    graph = {"fp32": lambda: graph, "fp16": lambda: _halved(graph), "int8": lambda: _quantised(graph)}[precision]()
    _describe(graph, model, config=config, checkpoint=checkpoint, precision=precision)
    if graph.ByteSize() > MAX_BYTES:
        raise InputError(f"{path}: the model has {graph.ByteSize():,} bytes, over ONNX's limit of 2 GiB for one file")
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        differences = _compare(model, OnnxModel(temporary, device="cpu"), check_shapes or _check_shapes(model))
        worst = max(difference.largest for difference in differences)
        if not worst <= (TOLERANCE if precision == "fp32" else 1):  # NaN is not
            raise InputError(
                f"{path}: not written, because alpha of the exported graph differs from PyTorch's by {worst:.1e}"
            )
    return differences


def _check_options(precision: str, opset: int) -> None:
    require_choice("precision", precision, PRECISIONS)
    onnx_package("onnxscript")
    onnx_package("onnxruntime")
    highest = onnx_package("onnx").defs.onnx_opset_version()
    if not LOWEST_OPSET <= opset <= highest:
        raise InputError(f"opset: expected {LOWEST_OPSET} to {highest}, got {opset}")


def _generic_shape(model: ViTMatte) -> tuple[int, int, int]:
    """Batch, height and width for tracing, at which no axis is 1, because such an axis would become constant."""
    window = model.backbone.window_size * model.backbone.patch_size
    return 2, 3 * window // 2 + 3, 5 * window // 2 + 5


def _traced(model: nn.Module, shape: tuple[int, int, int], opset: int) -> Any:
    """ModelProto of the model in float32. Nodes keep the names of their modules for `_halved`."""
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's warnings about its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                model,
                _example(shape),
                dynamo=True,
                dynamic_shapes=dict.fromkeys(INPUTS, free),
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                opset_version=opset,
                verbose=False,
            )
        finally:
            logging.getLogger("torch.onnx").setLevel(level)
    graph = program.model_proto
    _name_axes(graph)
    return graph


def _name_axes(model: Any) -> None:
    """Name the free axes of inputs and outputs. Sizes in between are inferred again from them."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip((0, 2, 3), AXES, strict=True):
            value.type.tensor_type.shape.dim[axis].dim_param = name


def _halved(model: Any) -> Any:
    """Convert to float16, with float32 inputs and outputs and float32 parts in `SINGLE`."""
    float16 = onnx_package("onnxruntime.transformers.float16")
    kept = [node.name for node in model.graph.node if any(part in _scopes(node) for part in SINGLE)]
    traced = {node.name for node in model.graph.node}
    halved = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    _join_kept_parts(halved.graph, traced)
    return halved


def _join_kept_parts(graph: Any, traced: set[str]) -> None:
    """Let nodes that stay float32 pass their values on without rounding, and drop the converter's repeated casts.

    The converter adds casts around every float32 node. Values between two of them would be rounded to float16, and a
    tensor read by two of them is cast twice under one name, which is not valid.

    Args:
        traced: names of the nodes before the conversion, whose casts are not the converter's.
    """
    seen: set[str] = set()
    nodes = [node for node in graph.node if not (node.output[0] in seen or seen.add(node.output[0]))]
    casts = {node.output[0]: node for node in nodes if node.op_type == "Cast" and node.name not in traced}
    unrounded = {
        output: casts[cast.input[0]].input[0]
        for output, cast in casts.items()
        if cast.attribute[0].i == FLOAT and cast.input[0] in casts
    }
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = unrounded.get(name, name)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(_sorted([node for node in nodes if node.output[0] not in unrounded or node.output[0] in read]))


def _sorted(nodes: Sequence[Any]) -> list[Any]:
    """Sort nodes so that every tensor is written before it is read; the converter appends its casts."""
    writer = {name: index for index, node in enumerate(nodes) for name in node.output}
    reads = {index: [writer[name] for name in node.input if name in writer] for index, node in enumerate(nodes)}
    return [nodes[index] for index in TopologicalSorter(reads).static_order()]


def _scopes(node: Any) -> str:
    """Modules in which a node was traced, as recorded by the exporter."""
    return " ".join(entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes")


def _quantised(model: Any) -> Any:
    """Convert linear layers to 8 bits. Convolutions, which lose more than they gain, and relative positions stay."""
    quantization = onnx_package("onnxruntime.quantization")
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS and node.input[1] in weights]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        logging.disable(logging.WARNING)  # it advises optimising first, which PyTorch's exporter has done
        try:
            quantization.quantize_dynamic(
                model,
                path,
                op_types_to_quantize=LAYERS,
                nodes_to_quantize=layers,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx_package("onnx").load(path)


def _describe(graph: Any, model: ViTMatte, **names: str) -> None:
    """Store the metadata that a reader needs, without facts about the machine (such as paths in stack traces)."""
    for part in (graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.metadata_props[:]
    last = model.decoder.fusion_blks[-1].conv.conv  # its maps are the largest
    pixel = 4 * (PICTURE_FLOATS + 2 * model.decoder.img_chans + 2 * last.in_channels + 2 * last.out_channels)
    attention = 4 * ATTENTION_COPIES / model.backbone.patch_size**4
    metadata = {
        "format": FORMAT,
        **names,
        "size_divisibility": model.size_divisibility,
        "pixel_mean": " ".join(f"{value:.6g}" for value in model.pixel_mean.flatten().tolist()),
        "colour_prior": "yes" if model.depends_on_padding else "no",
        "footprint": f"{pixel} {attention:.6g}",
    }
    for key, value in metadata.items():
        graph.metadata_props.add(key=PREFIX + key, value=str(value))


def _check_shapes(model: ViTMatte) -> list[tuple[int, int, int]]:
    """Three sizes: a rectangle of whole windows, odd sides in a batch of three, and more than the training crop."""
    window = model.backbone.window_size * model.backbone.patch_size
    crop = model.backbone.img_size
    return [(1, window, 2 * window), (3, window + 27, window // 2 + 5), (1, crop + 64, crop + 128)]


def _compare(model: ViTMatte, exported: OnnxModel, shapes: Sequence[tuple[int, int, int]]) -> list[Difference]:
    differences = []
    for shape in shapes:
        image, trimap = _example(shape)
        batch = {"image": image, "trimap": trimap}
        with torch.inference_mode():
            error = (exported(batch)["phas"] - model(batch)["phas"]).abs()[trimap == 0.5]
        differences.append(Difference(shape, float(error.max()), float(error.mean())))
    return differences


def _example(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """A random image and a trimap of random blocks of 8 x 8 pixels, always the same for a shape."""
    batch, height, width = shape
    rng = np.random.default_rng(shape)
    image = rng.random((batch, 3, height, width), np.float32)
    blocks = rng.integers(0, 3, (batch, 1, -(-height // 8), -(-width // 8))).astype(np.float32) / 2
    trimap = blocks.repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    trimap[:, :, 0, 0] = 0.5  # at least one pixel to compare
    return torch.from_numpy(image), torch.from_numpy(np.ascontiguousarray(trimap))
