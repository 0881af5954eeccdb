"""Combination of several priors, some of which are absent in a share of the training samples."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PriorStack(nn.Module):
    """Concatenated channels of several priors.

    A prior with a drop probability may be absent. Its channels are then 0, and one further channel is 1 if the prior is
    present and 0 if it is absent. In training mode it is absent from a random share of the samples. In eval mode it is
    present unless its index is in `skipped`, in which case it is not computed. A network trained in this way works with
    and without an expensive prior.

    Args:
        priors: modules with `out_chans` that map image and trimap to (B, out_chans, H, W), as ColourPrior.
        drop_probs: share of the training samples without each prior; 0 for one that is always there.

    Attributes:
        skipped: indexes of priors to leave out in eval mode.

    Example:
        >>> from modeling.priors.colour_prior import ColourPrior
        >>> prior = PriorStack([ColourPrior(sigmas=[4]), ColourPrior(sigmas=[12])], drop_probs=[0.0, 0.15])
        >>> prior.out_chans  # 6, 6, and the presence of the second
        13
    """

    def __init__(self, priors: Sequence[nn.Module], drop_probs: Sequence[float] | None = None) -> None:
        super().__init__()
        self.priors = nn.ModuleList(priors)
        self.drop_probs = tuple([0.0] * len(self.priors) if drop_probs is None else drop_probs)
        if len(self.drop_probs) != len(self.priors) or not all(0 <= prob <= 1 for prob in self.drop_probs):
            raise ValueError(
                f"PriorStack: expected a probability for each of {len(self.priors)} priors, got {self.drop_probs}"
            )
        self.skipped: frozenset[int] = frozenset()

    @property
    def out_chans(self) -> int:
        return sum(prior.out_chans for prior in self.priors) + sum(prob > 0 for prob in self.drop_probs)

    @torch.no_grad()
    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Return (B, out_chans, H, W) float32 for RGB (B, 3, H, W) in [0, 1] and a trimap of 0, 0.5 and 1."""
        channels = []
        for index, (prior, prob) in enumerate(zip(self.priors, self.drop_probs, strict=True)):
            present = self._present(index, prob, image)  # (B, 1, 1, 1)
            if present is None:
                channels.append(image.new_zeros(len(image), prior.out_chans + 1, *image.shape[-2:]))
                continue
            values = prior(image, trimap).float()
            if prob > 0:
                values = torch.cat([values * present, present.expand(-1, 1, *image.shape[-2:])], dim=1)
            channels.append(values)
        return torch.cat(channels, dim=1)

    def _present(self, index: int, prob: float, image: Tensor) -> Tensor | None:
        """1 for the samples that have this prior, 0 for the others; None if no sample has it."""
        if self.training and prob > 0:
            return (torch.rand(len(image), 1, 1, 1, device=image.device) >= prob).float()
        if not self.training and index in self.skipped and prob > 0:
            return None
        return torch.ones(len(image), 1, 1, 1, device=image.device)
