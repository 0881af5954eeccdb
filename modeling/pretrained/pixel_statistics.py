"""Training data set of weights, and pixel statistics for the normalisation of images.

With wrong statistics a model runs without an error and its results are wrong. This happens to a satellite DINOv3
(sat493m) with the statistics of web photographs (lvd1689m), and to a ViT that timm trained on labels with those of DINO
and MAE, which have the same architecture.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
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
_TRAINED_ON = {"dinov2": ("lvd142m", "LVD-142M")}  # but with ImageNet's statistics; all others on ImageNet-1k
_IMAGENET, _HALF = DINOV3_PIXEL_STATISTICS[_IMAGENET_LIKE], ((0.5,) * 3, (0.5,) * 3)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Word in the name of the file or its folder -> statistics in timm's pretrained_cfg of such a ViT
_NAMED = {
    **dict.fromkeys(("dino", "mae", "deit"), _IMAGENET),
    "miil": ((0.0,) * 3, (1.0,) * 3),
    "bamboo": _CLIP,
    **dict.fromkeys(("augreg", "augreg2", "orig", "sam"), _HALF),
}
_NO_NAMES = ("model", "pytorch_model")  # common names of files in a folder, which say nothing about the model
_CLASSIFIER = "head.weight"
_FOLDERS_ABOVE = 3  # models--facebook--dinov3-.../snapshots/REVISION/model.safetensors in Hugging Face's cache


def read_pixel_statistics(
    architecture: Network,
    requested: str,
    source: str,
    source_keys: Collection[str],
    image_mean: Sequence[float] | None,
    timm_config: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Metadata on data set and RGB statistics, and warnings.

    Args:
        requested: name of the data set, or "auto".
        source: path of the file. Its name and those of the folders above may contain the data set's name.
        source_keys: keys of the file.
        image_mean: image_mean of preprocessor_config.json, or None.
        timm_config: pretrained_cfg of timm's config.json, or None; used for ViTs of the family "plain".

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
        statistics = _IMAGENET
        if architecture.family == "plain":
            statistics, told_by, warnings = _read_plain(source, source_keys, timm_config)
            dataset = "imagenet21k" if re.search(r"in21k(?!.*in1k)", PurePath(source).name) else dataset
    else:
        evidence = {} if requested == "auto" else {"--dataset": requested}
        evidence |= _collect_evidence(source, source_keys, image_mean)
        dataset, told_by, warnings = _decide(evidence, architecture.name())
        statistics = DINOV3_PIXEL_STATISTICS[dataset]
    mean, std = statistics
    return {"dataset": dataset, "dataset_from": told_by, "pixel_mean": list(mean), "pixel_std": list(std)}, warnings


def _read_plain(
    source: str, source_keys: Collection[str], timm_config: Mapping[str, Any] | None
) -> tuple[tuple[Sequence[float], Sequence[float]], str, list[str]]:
    """Statistics of a ViT without LayerScale and registers, their source, and warnings.

    DINO's and MAE's encoders are published without a classifier. timm's ViTs that were trained on labels have one.
    """
    supervised = any(key == _CLASSIFIER or key.endswith(f".{_CLASSIFIER}") for key in source_keys)
    stated, word = _stated(timm_config), _word_in_name(source)
    if stated is not None:
        statistics, told_by = stated, "config.json"
    elif word is not None:
        statistics, told_by = _NAMED[word], f"{word!r} in the name"
    elif supervised:
        statistics, told_by = _HALF, "the classifier, with which timm's ViTs have these"
    else:
        return _IMAGENET, _OTHERS["plain"], []
    if not supervised:
        return statistics, told_by, []
    warning = (
        f"the file contains a classifier ({_CLASSIFIER}): a ViT trained on labels, with the architecture of DINO and "
        f"MAE; its images are normalised with mean {list(statistics[0])} and std {list(statistics[1])}, given by "
        f"{told_by}"
    )
    if stated is None:
        warning += "; timm's config.json beside the file would decide"
    return statistics, told_by, [warning]


def _stated(timm_config: Mapping[str, Any] | None) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of timm's config.json; None if it has no such numbers."""
    found = [(timm_config or {}).get(name) for name in ("mean", "std")]
    for values in found:
        is_rgb = isinstance(values, list) and len(values) == 3
        if not is_rgb or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
            return None
    mean, std = ([float(value) for value in values] for values in found)
    return (mean, std) if all(std) else None


def _word_in_name(source: str) -> str | None:
    """First word of `_NAMED` in the file's name or, for a file with a common name, in the name of a folder above."""
    path = PurePath(source)
    names = path.parts[-1 - _FOLDERS_ABOVE :] if path.stem.split(".")[0] in _NO_NAMES else path.parts[-1:]
    for name in reversed(names):
        for word in re.findall(r"[a-z]+[0-9]?", name.lower()):
            if word in _NAMED:
                return word
            if word.startswith("deit"):
                return "deit"
    return None


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
        evidence["local_cls_norm in the file"] = "sat493m"  # among convertible models only ViT-L sat493m has it
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
