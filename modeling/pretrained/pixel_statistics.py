"""The data set of DINOv3 weights, which determines how images are normalised.

A satellite (sat493m) backbone with the statistics of web photographs (lvd1689m) runs without error and is wrong.
"""

import math
from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import Any

from modeling.backbone import DINOV3_PIXEL_STATISTICS
from modeling.pretrained.architecture import Network
from runtime.errors import InputError

DATASETS = tuple(DINOV3_PIXEL_STATISTICS)
_USUAL = "lvd1689m"
_IMAGENET_LIKE = "lvd1689m"  # DINO and MAE have the same mean and deviation
_TRAINED_ON_SAT_TOO = {"dinov3_vitl16", "custom"}  # other published sizes up to ViT-H+ exist for lvd1689m only
_OTHERS = {
    "plain": "DINO and MAE",
    "dinov2": "DINOv2's ViTs",
    "vitmatte": "ViTMatte's backbones, DINO and MAE",
    "diffmatte": "DiffMatte's encoders",
    "dim": "Deep Image Matting's encoders",
    "vgg16": "torchvision's VGG-16",
}
_TRAINED_ON = {"dinov2": ("lvd142m", "LVD-142M")}  # with ImageNet's statistics; all others are trained on ImageNet-1k
_FOLDERS_ABOVE = 3  # models--facebook--dinov3-.../snapshots/REVISION/model.safetensors in Hugging Face's cache


def read_pixel_statistics(
    architecture: Network,
    requested: str,
    source: str,
    source_keys: Collection[str],
    image_mean: Sequence[float] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Metadata on data set and RGB statistics, and warnings.

    Args:
        requested: "auto", or the name of the data set, which is then used.
        source: path of the file; it and the folders above may contain the data set's name.
        source_keys: keys as in the file.
        image_mean: image_mean of preprocessor_config.json, or None.

    Raises:
        InputError: `requested` is not a known data set, or the weights are not DINOv3's.
    """
    if requested not in ("auto", *DATASETS):
        raise InputError(f"unknown data set {requested}; expected auto, {', '.join(DATASETS)}")
    if architecture.family != "dinov3":
        names = _OTHERS[architecture.family]
        dataset, title = _TRAINED_ON.get(architecture.family, ("imagenet1k", "ImageNet-1k"))
        if requested != "auto":
            raise InputError(f"--dataset {requested} is for DINOv3; {names} were trained on {title}")
        told_by, warnings = names, _compare_with_processor(image_mean)
    else:
        evidence = {} if requested == "auto" else {"--dataset": requested}
        evidence |= _collect_evidence(source, source_keys, image_mean)
        dataset, told_by, warnings = _decide(evidence, architecture.name())
    mean, std = DINOV3_PIXEL_STATISTICS[dataset if dataset in DATASETS else _IMAGENET_LIKE]
    return {"dataset": dataset, "dataset_from": told_by, "pixel_mean": list(mean), "pixel_std": list(std)}, warnings


def _compare_with_processor(image_mean: Sequence[float] | None) -> list[str]:
    """Warn if preprocessor_config.json differs from the training normalisation of hustvl/ViTMatte (docs/weights.md)."""
    mean, _ = DINOV3_PIXEL_STATISTICS[_IMAGENET_LIKE]
    if image_mean is None or all(map(_close, image_mean, mean)):
        return []
    return [
        f"preprocessor_config.json says image_mean {image_mean}; ViTMatte was trained with ImageNet's {list(mean)}, "
        "which the converted model uses"
    ]


def _decide(evidence: dict[str, str], arch: str) -> tuple[str, str, list[str]]:
    """Name of the data set, its source, and warnings."""
    if not evidence:
        if arch not in _TRAINED_ON_SAT_TOO:
            return _USUAL, "the only one for this architecture", []
        return (
            _USUAL,
            "assumed",
            [f"no sign of the data set, {_USUAL} assumed; for satellite weights --dataset sat493m"],
        )
    told_by, dataset = next(iter(evidence.items()))
    others = {other: name for other, name in evidence.items() if name != dataset}
    return dataset, told_by, [f"{told_by} says {dataset}, {other} says {name}" for other, name in others.items()]


def _collect_evidence(source: str, source_keys: Collection[str], image_mean: Sequence[float] | None) -> dict[str, str]:
    """Pairs of a source of the data set's name and the data set, strongest first."""
    evidence = {}
    if any("local_cls_norm." in key for key in source_keys):
        evidence["local_cls_norm in the file"] = "sat493m"  # of the sizes that convert, only ViT-L sat493m has it
    for dataset, (mean, _) in DINOV3_PIXEL_STATISTICS.items():
        if image_mean is not None and all(map(_close, image_mean, mean)):
            evidence["preprocessor_config.json"] = dataset
    named = _dataset_in_path(source)
    if named is not None:
        evidence["the file name"] = named
    return evidence


def _dataset_in_path(source: str) -> str | None:
    for part in reversed(PurePath(source).parts[-1 - _FOLDERS_ABOVE :]):
        for dataset in DATASETS:
            if dataset in part.lower():
                return dataset
    return None


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, abs_tol=5e-4)
