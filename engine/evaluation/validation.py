"""Scoring a model on a validation set during training: the metrics of the papers, on 8-bit mattes as written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from engine.inference import predict_alpha
from engine.training.interruption import Interruption
from metrics import mean_scores, score_image

Panel = tuple[str, np.ndarray]


class ValidationStopped(Exception):  # noqa: N818  (no error: what was asked for)
    """A signal, whose number is the argument, came before all images were scored."""


def validate(
    model: nn.Module,
    dataset: Sequence[dict[str, Any]],
    num_panels: int = 0,
    interruption: Interruption | None = None,
) -> tuple[dict, list[Panel]]:
    """Score `model` over `dataset`, the images dealt among the processes of the job.

    Args:
        model: unwrapped; put into eval mode for the time being.
        dataset: items with "name", "image" (H, W, 3) uint8, "trimap" and "alpha" (H, W) uint8.
        num_panels: of how many of the first images to return pictures.
        interruption: looked at between images; what was scored by then is lost.

    Returns:
        Mean scores over all images (MSE the plain mean) and the pictures: name, and (3, H, 4 W) uint8 of image,
        trimap, prediction and truth. The same on every process.

    Raises:
        ValidationStopped: in every process, with the same number.
    """
    was_training = model.training
    model.eval()
    _share_buffers(model)
    scores, panels = {}, []
    try:
        for index in range(comm.get_rank(), len(dataset), comm.get_world_size()):
            if interruption is not None and interruption.signal:
                break
            sample = dataset[index]
            pred_alpha = predict_alpha(model, sample["image"], sample["trimap"])
            scores[index] = score_image(pred_alpha, sample["alpha"], sample["trimap"])
            if index < num_panels:
                panels.append((sample["name"], _panel(sample, pred_alpha)))
    finally:
        model.train(was_training)
    merged = {index: score for part in comm.all_gather(scores) for index, score in part.items()}
    if len(merged) < len(dataset):
        raise ValidationStopped(max(comm.all_gather(interruption.signal)))
    return mean_scores(merged.values()), [panel for part in comm.all_gather(panels) for panel in part]


def _share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the main one, whose model is saved: each has its own batch statistics."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _panel(sample: dict[str, Any], pred_alpha: np.ndarray) -> np.ndarray:
    grays = [np.repeat(gray[..., None], 3, axis=2) for gray in (sample["trimap"], pred_alpha, sample["alpha"])]
    return np.concatenate([sample["image"], *grays], axis=1).transpose(2, 0, 1)
