"""Training losses of alpha without a trimap: Charbonnier, edges at several scales, Laplacian, and two optional terms.

The defaults are those of nikhiliit/Dinov3_matting, which has three peculiarities that are settings here. The
Charbonnier constant is not squared, so a perfect match costs sqrt(eps). Edges weigh up to exp(4.47) = 87 times as much
as flat parts. Zero padding creates an edge along the border of the image wherever alpha is not 0 there.

Every loss is a mean over all pixels, in float32 under autocast too, so the mean over equal parts of a batch is that of
the whole batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.errors import InputError, require_choice

SCALES = (1, 2, 4)
EDGE_WEIGHTS = ("exp", "linear", "none")
BORDERS = ("zeros", "replicate")
GRADIENT_EPS = 1e-8  # keeps the derivative of the magnitude finite where alpha is flat
BOUNDARY_VARIANCE = 0.01  # variance in 3 x 3 pixels above which they are a boundary
BOUNDARY_FACTOR = 5.0  # additional weight of a boundary


def charbonnier_loss(pred_alpha: Tensor, alpha: Tensor, eps: float = 1e-6) -> Tensor:
    """Mean of sqrt(d^2 + eps), a smooth absolute error with a minimum of sqrt(eps)."""
    return (pred_alpha - alpha).square().add(eps).sqrt().mean()


def edge_loss(
    pred_alpha: Tensor,
    alpha: Tensor,
    scales: Sequence[int] = SCALES,
    edge_weight: str = "exp",
    border: str = "zeros",
) -> Tensor:
    """Error of the magnitudes of the Sobel gradients, averaged over scales, each divided by its reduction factor.

    Args:
        scales: factors of average pooling. Remaining rows and columns are dropped. A scale larger than the image has no
            pixel and is not counted; the loss is 0 if none is counted.
        edge_weight: weight of a pixel whose true gradient is g: exp(g), 1 + g, or 1.
        border: continuation of alpha outside the image: "zeros" or "replicate".
    """
    total = pred_alpha.new_zeros(())
    scales = [scale for scale in scales if scale <= min(pred_alpha.shape[-2:])]
    for scale in scales:
        pooled = [F.avg_pool2d(each, scale) if scale > 1 else each for each in (pred_alpha, alpha)]
        pred_gradient, gradient = (gradient_magnitude(each, border) for each in pooled)
        weight = {"exp": torch.exp, "linear": lambda g: 1 + g, "none": torch.ones_like}[edge_weight](gradient)
        total = total + (weight * (pred_gradient - gradient)).abs().mean() / scale
    return total / max(1, len(scales))


def laplacian_loss(pred_alpha: Tensor, alpha: Tensor, border: str = "zeros") -> Tensor:
    """Mean absolute difference of the Laplacians, with a kernel of 4 in the centre and -1 at its four neighbours."""
    kernel = pred_alpha.new_tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])[None, None]
    pred_laplacian, laplacian = (_convolved(each, kernel, border) for each in (pred_alpha, alpha))
    return (pred_laplacian - laplacian).abs().mean()  # the Laplacian of the difference would give zeros other signs


def boundary_loss(pred_alpha: Tensor, alpha: Tensor, border: str = "zeros") -> Tensor:
    """Smooth L1 error, in which pixels of a boundary weigh six times as much as others."""
    errors = F.smooth_l1_loss(pred_alpha, alpha, reduction="none")
    return (errors * (1 + BOUNDARY_FACTOR * is_boundary(alpha, border))).mean()


def composition_loss(pred_alpha: Tensor, image: Tensor, fg: Tensor, bg: Tensor) -> Tensor:
    """Mean absolute difference between the image and the predicted composite of its layers (B, 3, H, W)."""
    return (pred_alpha * fg + (1 - pred_alpha) * bg - image).abs().mean()


def gradient_magnitude(alpha: Tensor, border: str = "zeros") -> Tensor:
    """Magnitude of the unnormalised Sobel gradient, at most 4.47 for alpha in [0, 1]; (B, 1, H, W) -> the same."""
    along_x = alpha.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernels = torch.stack([along_x, along_x.T])[:, None]  # (2, 1, 3, 3)
    return _convolved(alpha, kernels, border).square().sum(dim=1, keepdim=True).add(GRADIENT_EPS).sqrt()


def is_boundary(alpha: Tensor, border: str = "zeros") -> Tensor:
    """Boolean map (B, 1, H, W) of the pixels around which alpha varies, in 3 x 3 pixels."""
    kernel = alpha.new_full((1, 1, 3, 3), 1 / 9)
    mean, mean_square = (_convolved(values, kernel, border) for values in (alpha, alpha.square()))
    return mean_square - mean.square() > BOUNDARY_VARIANCE


class EdgeCriterion(nn.Module):
    """Weighted losses of one prediction. Terms of weight 0 are not computed.

    Args:
        alpha_loss: "charbonnier" or "l1".
        charbonnier_eps: constant under the square root.
        edge_weight, scales: see `edge_loss`.
        border: border of gradients, Laplacian and boundaries: "zeros" as published, or "replicate", which creates no
            edge along the border of the image.
        alpha_weight, gradient_weight, laplacian_weight, boundary_weight, composition_weight: weights of the terms.
            Composition needs samples with their layers (`return_layers` of a data set).

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        alpha_loss: str = "charbonnier",
        charbonnier_eps: float = 1e-6,
        edge_weight: str = "exp",
        border: str = "zeros",
        scales: Sequence[int] = SCALES,
        alpha_weight: float = 1.0,
        gradient_weight: float = 0.5,
        laplacian_weight: float = 0.1,
        boundary_weight: float = 0.0,
        composition_weight: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("criterion.alpha_loss", alpha_loss, ("charbonnier", "l1"))
        require_choice("criterion.edge_weight", edge_weight, EDGE_WEIGHTS)
        require_choice("criterion.border", border, BORDERS)
        self.weights = {
            "alpha_loss": alpha_weight,
            "gradient_loss": gradient_weight,
            "laplacian_loss": laplacian_weight,
            "boundary_loss": boundary_weight,
            "composition_loss": composition_weight,
        }
        if charbonnier_eps <= 0 or min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise InputError(
                f"criterion: expected charbonnier_eps above 0 and weights of at least 0, not all 0; got "
                f"{charbonnier_eps} and {self.weights}"
            )
        if not scales or any(scale < 1 for scale in scales):
            raise InputError(f"criterion.scales: expected whole numbers of at least 1, got {list(scales)}")
        self.eps = 0.0 if alpha_loss == "l1" else charbonnier_eps
        self.edge_weight, self.border, self.scales = edge_weight, border, tuple(scales)

    @property
    def needs_layers(self) -> bool:
        """Return whether `forward` needs foreground and background."""
        return self.weights["composition_loss"] > 0

    def forward(
        self,
        pred_alpha: Tensor,
        alpha: Tensor,
        image: Tensor | None = None,
        fg: Tensor | None = None,
        bg: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return name -> weighted scalar for alphas (B, 1, H, W) in [0, 1].

        Args:
            image, fg, bg: (B, 3, H, W) in [0, 1], for the composition term.
        """
        with torch.autocast(pred_alpha.device.type, enabled=False):
            pred_alpha, alpha = pred_alpha.float(), alpha.float()
            terms = {
                "alpha_loss": lambda: self._alpha_loss(pred_alpha, alpha),
                "gradient_loss": lambda: edge_loss(pred_alpha, alpha, self.scales, self.edge_weight, self.border),
                "laplacian_loss": lambda: laplacian_loss(pred_alpha, alpha, self.border),
                "boundary_loss": lambda: boundary_loss(pred_alpha, alpha, self.border),
                "composition_loss": lambda: composition_loss(pred_alpha, image.float(), fg.float(), bg.float()),
            }
            return {name: weight * terms[name]() for name, weight in self.weights.items() if weight}

    def _alpha_loss(self, pred_alpha: Tensor, alpha: Tensor) -> Tensor:
        return charbonnier_loss(pred_alpha, alpha, self.eps) if self.eps else (pred_alpha - alpha).abs().mean()


def _convolved(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Convolve with kernels of 3 x 3; the size stays the same."""
    if border == "zeros":
        return F.conv2d(x, kernel, padding=1)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)
