"""Validation during training: predictions of a set as they would be in files, and their scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.distributed as dist
from detectron2.utils import comm

from engine.evaluation.evaluators import Evaluator
from engine.inference import Predictor
from engine.training.interruption import Interruption
from modeling.meta_arch import System
from runtime.errors import InputError

Picture = tuple[str, np.ndarray]


class ValidationStopped(Exception):  # noqa: N818  (not an error: it was requested)
    """A signal, whose number is the argument, arrived before all images were scored."""


def validate(
    model: System,
    dataset: Sequence[Mapping[str, Any]],
    evaluator: Evaluator,
    num_panels: int = 0,
    interruption: Interruption | None = None,
) -> tuple[dict[str, float], list[Picture]]:
    """Score `model` over `dataset`, whose images are distributed over the processes of the job.

    Args:
        model: model without wrappers; temporarily in eval mode.
        dataset: items with "name", the model's inputs and the evaluator's targets, as 8-bit arrays.
        num_panels: number of images of which pictures are returned, from the first on.
        interruption: signals, checked between images; earlier scores are then lost.

    Returns:
        The evaluator's scores, and the pictures: name, and (3, H, n W) uint8 of inputs, prediction and truth. They are
        the same in every process.

    Raises:
        ValidationStopped: in every process, with the same number.
        InputError: an item lacks an input or a target, or the model refuses it; the message names it.
    """
    evaluator.check(model)
    was_training = model.training
    model.eval()
    _share_buffers(model)
    evaluator.reset()
    done, panels = 0, []
    try:
        predictor = Predictor(model, mode="whole", probabilities=evaluator.uses_probabilities)
        for index in range(comm.get_rank(), len(dataset), comm.get_world_size()):
            if interruption is not None and interruption.signal:
                break
            sample = dataset[index]
            _require(sample, (*model.inputs, *evaluator.reads), type(model).__name__)
            try:
                output = predictor.one(sample)
            except InputError as error:
                raise type(error)(f"{sample['name']}: {error}") from error
            evaluator.process([sample], [output])
            done += 1
            if index < num_panels:
                panels.append((sample["name"], _panel(model, sample, output)))
    finally:
        model.train(was_training)
    if sum(comm.all_gather(done)) < len(dataset):
        raise ValidationStopped(max(comm.all_gather(interruption.signal)))
    return evaluator.evaluate(), [panel for part in comm.all_gather(panels) for panel in part]


def panel_title(model: System) -> str:
    """Titles of the columns of a panel: "image | trimap | prediction | truth"."""
    return " | ".join((*model.inputs, "prediction", "truth"))


def _require(sample: Mapping[str, Any], names: Sequence[str], model_name: str) -> None:
    missing = [name for name in names if sample.get(name) is None]
    if missing:
        raise InputError(
            f"{model_name}: its evaluation reads {', '.join(dict.fromkeys(names))}; the samples of dataloader.test "
            f"lack {', '.join(missing)}"
        )


def _share_buffers(model: System) -> None:
    """Copy the buffers of the main process, whose model is saved, to all processes, whose statistics differ."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _panel(model: System, sample: Mapping[str, Any], output: Mapping[str, np.ndarray]) -> np.ndarray:
    shown = model.outputs[0]
    pictures = [sample[name] for name in model.inputs]
    for arrays in (output, sample):
        picture = arrays[shown]
        pictures.append(model.classes.overlay(sample["image"], picture) if shown == "mask" else picture)
    coloured = [np.repeat(p[..., None], 3, axis=2) if p.ndim == 2 else p for p in pictures]
    return np.concatenate(coloured, axis=1).transpose(2, 0, 1)
