"""Closed-form matting at a reduced size, as additional input channels of a network."""

import torch
from torch import Tensor, nn

from modeling.classical.closed_form import EPSILON, Effort, closed_form
from modeling.priors.recorded import Recorded


class ClosedFormPrior(nn.Module):
    """Alpha of closed-form matting and its misfit to the colours, in a fixed number of steps (Levin et al., 2008).

    The system is solved at 1 / `scale` of the size and carried up by local linear models
    (`modeling.classical.closed_form`), by plain conjugate gradients on every device: a network trained on a GPU
    sees the same channels on a CPU. Nothing waits for an accelerator. In training mode on a GPU, where crops have few
    shapes, the kernels are recorded once for each shape and replayed.

    Args:
        scale: power of two by which the size is reduced.
        iterations: number of conjugate gradient iterations at each size.
        epsilon: regularisation of the window covariances.
        smallest_side: pixels; the first size is the smallest that is at least this high and wide.
    """

    out_chans = 2

    def __init__(
        self,
        scale: int = 2,
        iterations: int = 40,
        epsilon: float = EPSILON,
        smallest_side: int = 24,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.effort = Effort(iterations, tolerance=1e-6, check_every=None, smallest_side=smallest_side, plain=True)
        self.epsilon = epsilon
        self._recorded = Recorded(self._channels)

    @torch.no_grad()
    def forward(self, image: Tensor, trimap: Tensor) -> Tensor:
        """Return (B, 2, H, W) float32 for RGB (B, 3, H, W) in [0, 1] and a trimap of 0, 0.5 and 1.

        The first channel is alpha in [0, 1], exact where the trimap is known. The second is the root mean square
        residual of the local linear models of the smaller alpha, in units of alpha, 0 where the trimap is known.
        """
        return self._recorded(image, trimap) if self.training else self._channels(image, trimap)

    def _channels(self, image: Tensor, trimap: Tensor) -> Tensor:
        alpha, misfit = closed_form(
            image.float(), trimap.float(), self.effort, epsilon=self.epsilon, scale=self.scale, with_misfit=True
        )
        return torch.cat([alpha, misfit], dim=1)
