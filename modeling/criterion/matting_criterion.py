"""ViTMatte's four training losses, as true means over the pixels they are about.

Every loss is float32 whatever the autocast state, has no constant that depends on the crop size, and is 0 (with a
gradient of 0) when the region it averages over is empty.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAPLACIAN_LEVELS = 5
MIN_PYRAMID_SIDE = 4  # below it a reflected 5x5 blur is not defined


def unknown_l1_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> Tensor:
    """Mean absolute error over the unknown region."""
    return _masked_mean((pred_alpha - alpha).abs(), unknown)


def known_l1_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> Tensor:
    """Mean absolute error over the known region."""
    return _masked_mean((pred_alpha - alpha).abs(), 1 - unknown)


def gradient_penalty(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, smoothness: float = 0.01) -> Tensor:
    """Sum over the unknown region of the Sobel gradients' error and `smoothness` times their size, per unknown pixel.

    Dai et al., "Boosting Robustness of Image Matting with Context Assembling and Strong Data Augmentation", 2022,
    in the form of hustvl/ViTMatte.
    """
    pred_gradient, gradient = _sobel(pred_alpha), _sobel(alpha)  # (B, 2, H, W)
    penalty = (pred_gradient - gradient).abs() + smoothness * pred_gradient.abs()
    return (penalty * unknown).sum() / unknown.sum().clamp(min=1)


def laplacian_pyramid_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> Tensor:
    """Weighted L1 distance of the Laplacian pyramids over the whole crop; level l counts 2 ** l.

    Hou and Liu, "Context-Aware Image Matting for Simultaneous Foreground and Alpha Estimation", 2019. The pyramid
    is linear, so it is taken of the difference. Crops too small for five levels use those that exist.
    """
    current = pred_alpha - alpha
    loss = current.new_zeros(())
    for level in range(LAPLACIAN_LEVELS):
        if min(current.shape[-2:]) < MIN_PYRAMID_SIDE:
            break
        current = current[..., : current.shape[-2] // 2 * 2, : current.shape[-1] // 2 * 2]
        smaller = _blur(current)[..., ::2, ::2]
        loss = loss + 2**level * (current - _upsample(smaller)).abs().mean()
        current = smaller
    return loss / LAPLACIAN_LEVELS


LOSSES = {
    "unknown_l1_loss": unknown_l1_loss,
    "known_l1_loss": known_l1_loss,
    "loss_pha_laplacian": laplacian_pyramid_loss,
    "loss_gradient_penalty": gradient_penalty,
}


class MattingCriterion(nn.Module):
    """The named losses of one prediction.

    Args:
        losses: names from `LOSSES`, ViTMatte's spelling; each weighs 1.
    """

    def __init__(self, losses: Sequence[str] = tuple(LOSSES)) -> None:
        super().__init__()
        unknown_names = [name for name in losses if name not in LOSSES]
        if unknown_names:
            raise ValueError(f"MattingCriterion: no loss named {unknown_names}; there are {list(LOSSES)}")
        self.losses = tuple(losses)

    def forward(self, pred_alpha: Tensor, alpha: Tensor, trimap: Tensor) -> dict[str, Tensor]:
        """Return name -> scalar for (B, 1, H, W) alphas in [0, 1] and a trimap of exactly 0, 0.5 and 1."""
        with torch.autocast(pred_alpha.device.type, enabled=False):
            unknown = (trimap == 0.5).float()
            return {name: LOSSES[name](pred_alpha.float(), alpha.float(), unknown) for name in self.losses}


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _sobel(x: Tensor) -> Tensor:
    """(B, 1, H, W) -> its unnormalised Sobel derivatives in x and y, (B, 2, H, W), borders zero-padded."""
    along_x = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    return F.conv2d(x, torch.stack([along_x, along_x.T])[:, None], padding=1)


def _blur(x: Tensor, gain: float = 1.0) -> Tensor:
    taps = x.new_tensor([1, 4, 6, 4, 1]) / 16
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), gain * torch.outer(taps, taps)[None, None])


def _upsample(x: Tensor) -> Tensor:
    """Double the size: zeros between the samples, blurred; the gain of 4 makes up for the zeros."""
    sparse = x.new_zeros(*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1])
    sparse[..., ::2, ::2] = x
    return _blur(sparse, gain=4)
