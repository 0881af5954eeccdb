"""Training losses of ViTMatte and DiffMatte, as true means over their pixels.

Every loss is float32 under autocast too, has no constant that depends on the crop size, and is 0 (with a gradient of 0)
if its region is empty.

A batch can be split over processes or over steps that accumulate gradients. The mean of the parts' masked means is not
the mean over the batch, because each part has a different number of unknown pixels. If the parts divide by
`unknown_pixels`, the mean of these numbers, then the mean of their losses is the loss of the whole batch.
"""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAPLACIAN_LEVELS = 5
MIN_PYRAMID_SIDE = 4  # a reflected 5x5 blur is not defined below this size


def unknown_l1_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, unknown_pixels: Tensor | None = None) -> Tensor:
    """Mean absolute error over the unknown region."""
    return masked_mean((pred_alpha - alpha).abs(), unknown, unknown_pixels)


def known_l1_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, unknown_pixels: Tensor | None = None) -> Tensor:
    """Mean absolute error over the known region."""
    known_pixels = None if unknown_pixels is None else unknown.numel() - unknown_pixels
    return masked_mean((pred_alpha - alpha).abs(), 1 - unknown, known_pixels)


def gradient_penalty(
    pred_alpha: Tensor,
    alpha: Tensor,
    unknown: Tensor,
    unknown_pixels: Tensor | None = None,
    smoothness: float = 0.01,
) -> Tensor:
    """Gradient error and `smoothness` times the gradient size, summed over the unknown region, per unknown pixel.

    Dai et al., "Boosting Robustness of Image Matting with Context Assembling and Strong Data Augmentation", 2022,
    in the form of hustvl/ViTMatte.
    """
    pred_gradient, gradient = _sobel(pred_alpha), _sobel(alpha)  # (B, 2, H, W)
    penalty = (pred_gradient - gradient).abs() + smoothness * pred_gradient.abs()
    return masked_mean(penalty, unknown, unknown_pixels)


def laplacian_pyramid_loss(
    pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, unknown_pixels: Tensor | None = None
) -> Tensor:
    """Weighted L1 distance of the Laplacian pyramids over the whole crop; level l has the weight 2 ** l.

    Hou and Liu, "Context-Aware Image Matting for Simultaneous Foreground and Alpha Estimation", 2019. The pyramid
    is linear, so the pyramid of the difference is used. Crops too small for five levels use the levels that exist.
    """
    current = pred_alpha - alpha
    loss = current.new_zeros(())
    for level in range(LAPLACIAN_LEVELS):
        if min(current.shape[-2:]) < MIN_PYRAMID_SIDE:
            break
        current = current[..., : current.shape[-2] // 2 * 2, : current.shape[-1] // 2 * 2]
        smaller = _downsample(current)
        loss = loss + 2**level * (current - _upsample(smaller)).abs().mean()
        current = smaller
    return loss / LAPLACIAN_LEVELS


def mse_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, unknown_pixels: Tensor | None = None) -> Tensor:
    """Mean squared error over all pixels."""
    return (pred_alpha - alpha).square().mean()


LOSSES = {
    "mse_loss": mse_loss,
    "unknown_l1_loss": unknown_l1_loss,
    "known_l1_loss": known_l1_loss,
    "loss_pha_laplacian": laplacian_pyramid_loss,
    "loss_gradient_penalty": gradient_penalty,
}
VITMATTE_LOSSES = ("unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty")


class MattingCriterion(nn.Module):
    """Named losses of one prediction.

    Args:
        losses: names from `LOSSES`, each with weight 1; ViTMatte's four by default.
        fuse_trimap: whether the prediction is scored as it is written to file, with the trimap's 0 and 1 at its known
            pixels. These then have no gradient, and the known loss is a constant, the error of the trimap. AEMatter is
            trained in this way (Liu et al., "Rethinking Context Aggregation in Natural Image Matting", 2023).

    Attributes:
        last_per_sample: for each sample of the last batch (B,), the share of unknown pixels and the mean absolute error
            over them, without gradients, for monitoring.
    """

    def __init__(self, losses: Sequence[str] = VITMATTE_LOSSES, fuse_trimap: bool = False) -> None:
        super().__init__()
        unknown_names = [name for name in losses if name not in LOSSES]
        if unknown_names:
            raise ValueError(f"MattingCriterion: no loss named {unknown_names}; there are {list(LOSSES)}")
        self.losses = tuple(losses)
        self.fuse_trimap = fuse_trimap
        self.last_per_sample: tuple[Tensor, Tensor] | None = None

    def forward(
        self, pred_alpha: Tensor, alpha: Tensor, trimap: Tensor, unknown_pixels: Tensor | float | None = None
    ) -> dict[str, Tensor]:
        """Return name -> scalar for alphas (B, 1, H, W) of one range and a trimap of exactly 0, 0.5 and 1.

        Args:
            unknown_pixels: divisor of the means over the unknown region. Means over the known region are divided by the
                number of the other pixels of this batch. For parts of equal size of a larger batch this is the mean
                number of unknown pixels of the parts. None for the number of this batch.
        """
        with torch.autocast(pred_alpha.device.type, enabled=False):
            pred_alpha, alpha = pred_alpha.float(), alpha.float()
            is_unknown = trimap == 0.5
            if self.fuse_trimap:
                pred_alpha = torch.where(is_unknown, pred_alpha, trimap.float())
            if unknown_pixels is not None:
                unknown_pixels = torch.as_tensor(unknown_pixels, dtype=torch.float32, device=pred_alpha.device)
            unknown = is_unknown.float()
            self.last_per_sample = per_sample(pred_alpha, alpha, unknown)
            return {name: LOSSES[name](pred_alpha, alpha, unknown, unknown_pixels) for name in self.losses}


@torch.no_grad()
def per_sample(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
    pixels = unknown.flatten(1).sum(dim=1)
    errors = ((pred_alpha - alpha).abs() * unknown).flatten(1).sum(dim=1) / pixels.clamp(min=1)
    return pixels / unknown[0].numel(), errors


def masked_mean(values: Tensor, mask: Tensor, pixels: Tensor | None) -> Tensor:
    """Sum of `values` under `mask` divided by `pixels`; None for the number of pixels of the mask."""
    pixels = mask.sum() if pixels is None else pixels
    return (values * mask).sum() / torch.where(pixels > 0, pixels, 1)  # the sum is 0 if there are none


def _sobel(x: Tensor) -> Tensor:
    """(B, 1, H, W) -> its unnormalised Sobel derivatives in x and y, (B, 2, H, W), borders zero-padded."""
    return F.conv2d(x, _sobel_kernels(x.device, x.dtype), padding=1)


def _downsample(x: Tensor) -> Tensor:
    """Halve the size of (B, 1, H, W), H and W even: every second pixel of the blurred map."""
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(padded, _blur_kernel(1.0, x.device, x.dtype), stride=2)


def _upsample(x: Tensor) -> Tensor:
    """Double the size: zeros between the samples, blurred with a gain of 4 that compensates for the zeros.

    Reflection of the map with zeros continues with the second sample on one side and with the last on the other.
    """
    padded = F.pad(F.pad(x, (1, 0, 1, 0), mode="reflect"), (0, 1, 0, 1), mode="replicate")
    return F.conv_transpose2d(padded, _blur_kernel(4.0, x.device, x.dtype), stride=2)[..., 4:-3, 4:-3]


# Kept, because making them from Python numbers would wait for a GPU a dozen times in every step.
@cache
@torch.inference_mode(False)
def _sobel_kernels(device: torch.device, dtype: torch.dtype) -> Tensor:
    along_x = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=device, dtype=dtype)
    return torch.stack([along_x, along_x.T])[:, None]


@cache
@torch.inference_mode(False)
def _blur_kernel(gain: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    taps = torch.tensor([1, 4, 6, 4, 1], device=device, dtype=dtype) / 16
    return gain * torch.outer(taps, taps)[None, None]
