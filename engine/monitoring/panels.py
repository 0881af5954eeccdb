"""What the network is fed, as a picture."""

import torch
import torch.nn.functional as F
from detectron2.engine import HookBase
from torch import Tensor

from data.images.trimap_tensors import quantise_trimap_tensor

LARGEST_TILE = 512  # pixels a side; larger crops are shown smaller


class FirstBatchPanel(HookBase):
    """Log samples of the first batch after a start or resume: image, trimap and alpha side by side.

    For the main process. `trainer.batches` is an ObservedBatches.

    Args:
        num_samples: at most so many, one below the other; 0 for none.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def after_step(self) -> None:
        batch, self.trainer.batches.first = self.trainer.batches.first, None
        if batch is not None and self.num_samples > 0:
            self.trainer.storage.put_image("image | trimap | alpha/first batch", batch_panel(batch, self.num_samples))


def batch_panel(batch: dict[str, Tensor], num_samples: int) -> Tensor:
    """A picture (3, rows * H, 3 * W) uint8 of the first samples of a batch: image, trimap, alpha, a row for each.

    Args:
        batch: "image" (B, 3, H, W) in [0, 1], "trimap" and "alpha" (B, 1, H, W), as the model takes them.
    """
    image, trimap, alpha = (batch[key][:num_samples].float().cpu() for key in ("image", "trimap", "alpha"))
    grays = [gray.expand_as(image) for gray in (quantise_trimap_tensor(trimap), alpha)]
    rows = torch.cat([image, *grays], dim=3)  # (rows, 3, H, 3 W)
    scale = LARGEST_TILE / max(image.shape[-2:])
    if scale < 1:
        rows = F.interpolate(rows, scale_factor=scale, mode="area")
    return rows.clamp(0, 1).mul(255).round().byte().transpose(0, 1).flatten(1, 2)
