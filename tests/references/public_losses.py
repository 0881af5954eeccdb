"""ViTMatte's four training losses in the form their authors write them: what benchmarks compare with.

Every convolution is done for prediction and truth apart, and the Laplacian pyramids are built of both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5
CROP = 512  # the side that the masked means are written for


def public_losses(pred_alpha: Tensor, alpha: Tensor, trimap: Tensor) -> dict[str, Tensor]:
    """Name -> loss of (B, 1, H, W) alphas in [0, 1] and a trimap of 0, 0.5 and 1 with some unknown pixel."""
    unknown = torch.zeros_like(trimap)
    unknown[trimap == 0.5] = 1
    return {
        **_unknown_l1(pred_alpha, alpha, unknown),
        **_known_l1(pred_alpha, alpha, unknown),
        "loss_pha_laplacian": _laplacian(pred_alpha, alpha),
        "loss_gradient_penalty": _gradient_penalty(pred_alpha, alpha, unknown),
    }


def _unknown_l1(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    scale = len(unknown) * CROP**2 / unknown.sum()
    return {"unknown_l1_loss": F.l1_loss(pred_alpha * unknown, alpha * unknown) * scale}


def _known_l1(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> dict[str, Tensor]:
    known = torch.zeros_like(unknown)
    known[unknown == 0] = 1
    pixels = known.sum()
    scale = 0 if pixels == 0 else len(known) * CROP**2 / pixels
    return {"known_l1_loss": F.l1_loss(pred_alpha * known, alpha * known) * scale}


def _gradient_penalty(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor) -> Tensor:
    scale = len(unknown) * CROP**2 / unknown.sum()
    along_x = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    loss = 0
    for kernel in (along_x, along_x.T):
        kernel = kernel[None, None].to(pred_alpha)
        pred_gradient, gradient = F.conv2d(pred_alpha, kernel, padding=1), F.conv2d(alpha, kernel, padding=1)
        error = F.l1_loss(pred_gradient * unknown, gradient * unknown)
        loss = loss + (error + 0.01 * torch.mean(torch.abs(pred_gradient * unknown))) * scale
    return loss


def _laplacian(pred_alpha: Tensor, alpha: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 4, 6, 4, 1])
    kernel = (torch.outer(taps, taps) / 256)[None, None].to(pred_alpha)
    pyramids = zip(_pyramid(pred_alpha, kernel), _pyramid(alpha, kernel), strict=True)
    return sum(2**level * F.l1_loss(ours, theirs) for level, (ours, theirs) in enumerate(pyramids)) / LEVELS


def _pyramid(image: Tensor, kernel: Tensor) -> list[Tensor]:
    residuals, current = [], image
    for _ in range(LEVELS):
        current = current[:, :, : current.shape[2] // 2 * 2, : current.shape[3] // 2 * 2]
        smaller = _blurred(current, kernel)[:, :, ::2, ::2]
        enlarged = torch.zeros_like(current)
        enlarged[:, :, ::2, ::2] = smaller * 4
        residuals.append(current - _blurred(enlarged, kernel))
        current = smaller
    return residuals


def _blurred(image: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), kernel)
