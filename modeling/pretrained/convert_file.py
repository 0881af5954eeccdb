"""Conversion of a weight file to a converted file, as in preprocess.py."""

import os
import re
from pathlib import Path

from modeling.pretrained.convert import Conversion, convert
from modeling.pretrained.weight_files import WeightFile, read_weights
from modeling.weights.checkpoint_file import CONFIG_ENTRY, write_checkpoint
from runtime.errors import InputError

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth")  # torch.hub's convention: the first digits of the file's SHA-256


def convert_file(
    weights: str | os.PathLike,
    output: str | os.PathLike,
    arch: str = "auto",
    dataset: str = "auto",
    img_size: int | None = None,
    num_heads: int | None = None,
) -> Conversion:
    """Convert `weights` and write {"model": ..., "metadata": ...} to `output`, atomically.

    A whole model is described too, as checkpoints of runs are, so that inference needs no config.

    Args:
        weights: .pth, .safetensors, the index.json of shards, or a folder with one of them.
        arch, dataset, img_size, num_heads: as in `convert`.

    Raises:
        InputError: unusable weights or paths. The message names the file, and nothing is written.
    """
    output, source = Path(output), read_weights(weights)
    weights = source.path  # the file, also if a folder was given
    _spare_sources(output, [weights, *(weights.parent / name for name in source.shards)])
    try:
        conversion = convert(
            source.checkpoint,
            arch=arch,
            dataset=dataset,
            config=source.config,
            image_mean=source.image_mean,
            source=str(weights.absolute()),
            img_size=img_size,
            num_heads=num_heads,
        )
    except InputError as error:
        raise InputError(f"{weights}: {error}") from error
    conversion.metadata.update(source_file=weights.name, source_sha256=source.sha256, source_shards=source.shards)
    conversion.report.warnings.extend(_check_hash_in_name(weights, source))
    described = {} if conversion.description is None else {CONFIG_ENTRY: conversion.description}
    write_checkpoint(output, {"model": conversion.model, "metadata": conversion.metadata, **described})
    return conversion


def _spare_sources(output: Path, sources: list[Path]) -> None:
    if output.is_dir():
        raise InputError(f"{output}: expected a file to write, found a folder")
    if output.exists() and any(output.samefile(source) for source in sources):
        raise InputError(f"{output}: the output is the input; name another file")


def _check_hash_in_name(weights: Path, source: WeightFile) -> list[str]:
    match = _HASH_IN_NAME.search(weights.name)
    if match is None or source.sha256.startswith(match[1]):
        return []
    return [f"{weights.name} promises a SHA-256 of {match[1]}..., it is {source.sha256[:8]}...: altered or incomplete?"]
