"""Training losses of Deep Image Matting: Charbonnier distances, as means over the unknown pixels of a whole batch.

Xu et al., "Deep Image Matting", CVPR 2017. Every loss is float32 under autocast too, because eps squared is zero in
half precision. A loss is 0 (with a gradient of 0) if no pixel is unknown. See `matting_criterion` for batches in parts.
"""

import torch
from torch import Tensor, nn

from modeling.criterion.matting_criterion import masked_mean, per_sample

EPS = 1e-6


def charbonnier(difference: Tensor) -> Tensor:
    """sqrt(d^2 + eps^2), an absolute value with a gradient at zero."""
    return (difference.square() + EPS**2).sqrt()


def alpha_loss(pred_alpha: Tensor, alpha: Tensor, unknown: Tensor, unknown_pixels: Tensor | None = None) -> Tensor:
    """Mean distance of alphas (B, 1, H, W) over the unknown region."""
    return masked_mean(charbonnier(pred_alpha - alpha), unknown, unknown_pixels)


def composition_loss(
    pred_alpha: Tensor,
    fg: Tensor,
    bg: Tensor,
    image: Tensor,
    unknown: Tensor,
    unknown_pixels: Tensor | None = None,
) -> Tensor:
    """Mean distance, over the unknown region and three channels, of the predicted composite and the image.

    Args:
        fg, bg, image: (B, 3, H, W) RGB in [0, 1].
    """
    composite = pred_alpha * fg + (1 - pred_alpha) * bg
    return masked_mean(charbonnier(composite - image).mean(dim=1, keepdim=True), unknown, unknown_pixels)


class DIMCriterion(nn.Module):
    """Weighted losses of alpha, of its composite, and of the refined alpha.

    Args:
        alpha_weight, composition_weight, refinement_weight: weights of the losses; the paper's are 0.5, 0.5 and 1.

    Attributes:
        last_per_sample: see MattingCriterion; for the refined alpha if there is one.
    """

    def __init__(
        self, alpha_weight: float = 0.5, composition_weight: float = 0.5, refinement_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.alpha_weight = alpha_weight
        self.composition_weight = composition_weight
        self.refinement_weight = refinement_weight
        self.last_per_sample: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        pred_alpha: Tensor | None,
        refined_alpha: Tensor | None,
        batch: dict[str, Tensor],
        unknown_pixels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return name -> scalar.

        Args:
            pred_alpha: (B, 1, H, W) of the encoder-decoder; None if it is not trained.
            refined_alpha: (B, 1, H, W) of the refinement; None if there is no refinement.
            batch: "alpha", "trimap" of exactly 0, 0.5 and 1, and for `pred_alpha` "image", "fg" and "bg", RGB in
                [0, 1].
            unknown_pixels: divisor of the means, see MattingCriterion.
        """
        losses = {}
        with torch.autocast(batch["alpha"].device.type, enabled=False):
            alpha, unknown = batch["alpha"].float(), (batch["trimap"] == 0.5).float()
            if pred_alpha is not None:
                pred_alpha = pred_alpha.float()
                layers = (batch[name].float() for name in ("fg", "bg", "image"))
                losses["alpha_loss"] = self.alpha_weight * alpha_loss(pred_alpha, alpha, unknown, unknown_pixels)
                losses["composition_loss"] = self.composition_weight * composition_loss(
                    pred_alpha, *layers, unknown, unknown_pixels
                )
            if refined_alpha is not None:
                refined_alpha = refined_alpha.float()
                losses["refinement_loss"] = self.refinement_weight * alpha_loss(
                    refined_alpha, alpha, unknown, unknown_pixels
                )
            self.last_per_sample = per_sample(pred_alpha if refined_alpha is None else refined_alpha, alpha, unknown)
        return losses
