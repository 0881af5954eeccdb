"""Conversion of a published checkpoint of an encoder, of ViTMatte, DiffMatte or DIM to this project's tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from modeling.pretrained.architecture import Network, check_requested, read_architecture
from modeling.pretrained.assemble import Assembly, assemble
from modeling.pretrained.description import describe
from modeling.pretrained.diffmatte_architecture import read_diffmatte_architecture
from modeling.pretrained.dim_architecture import read_dim_architecture, read_vgg16_architecture
from modeling.pretrained.frozen_architecture import read_frozen_architecture
from modeling.pretrained.matting_architecture import ViTDetArchitecture, read_matting_architecture
from modeling.pretrained.pixel_statistics import read_pixel_statistics
from modeling.pretrained.report import ConversionReport
from modeling.pretrained.select import select
from modeling.pretrained.weight_files import TIMM_CONFIG
from modeling.weights.relative_positions import fit_relative_positions
from runtime.errors import InputError

FORMAT_VERSION = 2  # 1: encoders had a fourth input channel of zeros, and the metadata no patch_size
TARGET_PREFIX = "backbone."
_READERS = {  # for networks other than a plain ViT
    "vitmatte": read_matting_architecture,
    "diffmatte": read_diffmatte_architecture,
    "dim": read_dim_architecture,
    "vgg16": read_vgg16_architecture,
    "frozen": read_frozen_architecture,
}
_CONFIG_TYPES = {
    "dinov3": ("dinov3_vit",),
    "dinov2": ("dinov2", "dinov2_with_registers"),
    "vitmatte": ("vitmatte",),
}  # model_type of transformers' config.json


@dataclass(frozen=True)
class Conversion:
    """Contents of a converted file, and the report of the conversion.

    `model` maps "backbone." and the names of the encoder (modeling.backbone) to finite float32 tensors (counters of
    batch norms and Swin's indexes are int64). Whole models also have "decoder." and the names of the decoder
    (modeling.decoder). `metadata` has plain values: architecture, pixel statistics, data set and sources
    (docs/weights.md lists them).
    `description` is the config of a whole model in plain values, None for an encoder.
    """

    model: dict[str, Tensor]
    metadata: dict[str, Any]
    report: ConversionReport
    description: dict[str, Any] | None = None


def convert(
    checkpoint: Mapping[str, Any],
    *,
    arch: str = "auto",
    dataset: str = "auto",
    config: Mapping[str, Any] | None = None,
    image_mean: Sequence[float] | None = None,
    source: str = "state dict",
    img_size: int | None = None,
    num_heads: int | None = None,
) -> Conversion:
    """Convert an encoder of RGB (DINOv3, DINOv2, DINO, MAE, VGG-16), which stays RGB, or a ViTMatte, DiffMatte or DIM.

    Every key of the source is mapped or is on a list of ignored keys, and every tensor of the model is filled or listed
    as new. Anything else is an error. The argument is not modified.

    Args:
        checkpoint: name -> tensor in one of the published layouts (key_layouts.py), possibly in a wrapper of training
            checkpoints ({"teacher": ...}, {"model": ...}, "module.backbone." before each name).
        arch: expected architecture, such as "dinov3_vits16" or "vitmatte_s"; "auto" for any.
        dataset: "lvd1689m" or "sat493m" for DINOv3; "auto" to detect it.
        config: config.json of transformers' DINOv3ViTModel, DINOv2 models or VitMatteForImageMatting, for Hugging
            Face's layout only; or timm's, for the pixel statistics.
        image_mean: image_mean of preprocessor_config.json, for the same layout.
        source: name of the weights for the report. The data set may be detected from a path.
        img_size: training crop in pixels to which tables of relative positions are interpolated; None to keep them.
        num_heads: number of attention heads of an encoder, if the weights do not have it.

    Raises:
        InputError: unknown, incomplete, damaged or unsupported weights. The message does not contain `source`.

    Example:
        >>> from modeling.backbone import ViT
        >>> state_dict = ViT(in_chans=3, embed_dim=64, depth=2, num_heads=2).state_dict()  # DINOv3's official names
        >>> converted = convert(state_dict, dataset="lvd1689m")
        >>> converted.metadata["family"], converted.metadata["num_heads"]
        ('dinov3', 2)
        >>> converted.model["backbone.patch_embed.proj.weight"].shape
        torch.Size([64, 3, 16, 16])
    """
    selection = select(checkpoint)
    _check_not_ours(checkpoint)
    timm_config = (config or {}).get(TIMM_CONFIG)
    family = selection.layout.family
    if selection.layout.name != "huggingface":
        config = image_mean = None
    elif config is not None and config.get("model_type", _CONFIG_TYPES[family][0]) not in _CONFIG_TYPES[family]:
        config = None
    if family in _READERS:
        if num_heads is not None:
            raise InputError("--num-heads is for encoders, and this file is a whole model or VGG-16; leave it out")
        architecture, heads_from = _READERS[family](selection.tensors, config)
    else:
        architecture, heads_from = read_architecture(selection.tensors, family, config, num_heads)
    check_requested(architecture, arch)
    assembly, name = assemble(selection.tensors, architecture), architecture.name()
    if img_size is not None:
        architecture = _resized(assembly, architecture, img_size)
    keys = [*selection.mapped, *selection.ignored]
    timm_config = timm_config if isinstance(timm_config, Mapping) else None
    statistics, warnings = read_pixel_statistics(architecture, dataset, source, keys, image_mean, timm_config)
    metadata = {
        "format_version": FORMAT_VERSION,
        "arch": name,
        **architecture.to_metadata(),
        "num_heads_from": heads_from,
        **statistics,
        "periods": assembly.periods,
        "bias_mask": assembly.bias_mask,
        "source_layout": selection.layout.name,
        "source_entry": selection.entry,
        "source_prefix": selection.prefix,
    }
    report = ConversionReport(
        source=source,
        mapped=selection.mapped,
        ignored=selection.ignored,
        model_keys=list(assembly.tensors),
        network=str(architecture),
        new=assembly.new,
        metadata=metadata,
        warnings=[*assembly.warnings, *warnings],
    )
    model = {target_name(key): tensor for key, tensor in assembly.tensors.items()}
    return Conversion(model, metadata, report, describe(architecture, statistics))


def target_name(key: str) -> str:
    """Name of a tensor in a checkpoint of a system with a backbone and a decoder."""
    return key if key.startswith(("decoder.", "refiner.")) else TARGET_PREFIX + key


def _resized(assembly: Assembly, architecture: Network, img_size: int) -> Network:
    """Architecture for crops of `img_size`, after interpolation of the assembly's tables of relative positions."""
    if not isinstance(architecture, ViTDetArchitecture):
        raise InputError("--img-size is for ViTMatte and DiffMatte on a ViT, which have tables of relative positions")
    if img_size < architecture.patch_size or img_size % architecture.patch_size:
        raise InputError(f"--img-size: expected a multiple of the patch size {architecture.patch_size}, got {img_size}")
    resized = replace(architecture, img_size=img_size)
    assembly.tensors, done = fit_relative_positions(assembly.tensors, resized.expected_shapes())
    if done:
        assembly.warnings.append(
            f"tables of relative positions interpolated from {architecture.img_size} to {img_size} pixels: {done}"
        )
    return resized


def _check_not_ours(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a file with this project's metadata, which a second conversion would lose."""
    metadata = checkpoint.get("metadata")
    if isinstance(metadata, Mapping) and "pixel_mean" in metadata:
        raise InputError("the file is in this project's format already (converted or trained); use it as it is")
