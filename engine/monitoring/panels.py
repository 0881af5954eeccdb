"""Panels: pictures of the network's inputs and outputs in training, and of validation as files."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.engine import HookBase
from torch import Tensor

from data.images.files import write_png
from data.images.trimap_tensors import quantise_trimap_tensor
from runtime.errors import InputError
from runtime.text import one_line

logger = logging.getLogger("dinomatte.monitoring")

PANEL_FOLDER = "validation"
LARGEST_TILE = 512  # pixels per side; larger crops are reduced


class FirstBatchPanel(HookBase):
    """Log samples of the first batch after a start or resume: inputs and targets side by side.

    Register this hook in the main process only. `trainer.batches` must be an ObservedBatches.

    Args:
        num_samples: largest number of samples, shown one below the other; 0 for none.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def after_step(self) -> None:
        batch, self.trainer.batches.first = self.trainer.batches.first, None
        if batch is not None and self.num_samples > 0:
            model = self.trainer.unwrapped
            names = (*model.inputs, *model.targets)
            picture = batch_panel(batch, names, self.num_samples, model.num_classes)
            self.trainer.storage.put_image(f"{' | '.join(names)}/first batch", picture)


class TrainingPictures(HookBase):
    """Log the system's pictures of its last training batch, see `System.training_pictures`.

    Register this hook in the main process only.

    Args:
        period: iterations between pictures, starting with the first iteration; 0 for none.
        num_samples: largest number of samples, one below the other.
    """

    def __init__(self, period: int, num_samples: int) -> None:
        self.period = period
        self.num_samples = num_samples

    def after_step(self) -> None:
        if not self.period or self.trainer.iter % self.period or self.num_samples < 1:
            return
        pictures = self.trainer.unwrapped.training_pictures()
        if pictures:
            picture = batch_panel(pictures, list(pictures), self.num_samples)
            self.trainer.storage.put_image(f"{' | '.join(pictures)}/training", picture)


def write_panels(output_dir: str | Path, iteration: int, panels: Sequence[tuple[str, np.ndarray]]) -> None:
    """Write the pictures of an evaluation to validation/ITERATION_NAME.png; if this fails, a warning is logged.

    Args:
        panels: name, and (3, H, W) uint8.
    """
    for name, picture in panels:
        path = Path(output_dir) / PANEL_FOLDER / f"{iteration:07d}_{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.png"
        try:
            write_png(path, np.ascontiguousarray(picture.transpose(1, 2, 0)))
        except (InputError, OSError) as error:  # a picture must not end a run
            logger.warning("%s is not written: %s", path, one_line(error))


def batch_panel(batch: dict[str, Tensor], names: Sequence[str], num_samples: int, num_classes: int = 2) -> Tensor:
    """A picture (3, rows * H, n * W) uint8 of the first samples of a batch, with a row per sample and a column per
    name.

    Args:
        batch: batch of a system: (B, 3, H, W) or (B, 1, H, W) in [0, 1], and "mask" (B, H, W) of class indexes.
    """
    columns = [_gray_or_colour(name, batch[name][:num_samples].cpu(), num_classes) for name in names]
    rows = torch.cat(columns, dim=3)  # (rows, 3, H, n W)
    scale = LARGEST_TILE / max(columns[0].shape[-2:])
    if scale < 1:
        rows = F.interpolate(rows, scale_factor=scale, mode="area")
    return rows.clamp(0, 1).mul(255).round().byte().transpose(0, 1).flatten(1, 2)


def _gray_or_colour(name: str, x: Tensor, num_classes: int) -> Tensor:
    """Convert an entry of the batch to (rows, 3, H, W) in [0, 1]."""
    if name == "mask":
        x = x[:, None].float() / (num_classes - 1)
    elif name == "trimap":
        x = quantise_trimap_tensor(x)
    return x.float().expand(-1, 3, -1, -1)
