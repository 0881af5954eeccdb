"""Closed-form matting as a system, without weights and training."""

from collections.abc import Mapping

import torch
from torch import Tensor

from modeling.classical import closed_form_alpha
from modeling.meta_arch.base import System
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint

SOLVER_FLOATS = 30  # per pixel: the Laplacian's twelve numbers, and the vectors of conjugate gradients of each size


class ClosedForm(System):
    """Alpha by Levin, Lischinski and Weiss, "A Closed-Form Solution to Natural Image Matting", 2008.

    See `modeling.classical.closed_form_alpha`. Tiles are an approximation, because known pixels outside a tile are
    ignored.

    Example:
        >>> image, trimap = torch.rand(1, 3, 16, 24), torch.full((1, 1, 16, 24), 0.5)
        >>> trimap[..., :8], trimap[..., 16:] = 0, 1
        >>> ClosedForm().eval().predict(image, trimap).shape
        torch.Size([1, 1, 16, 24])
    """

    depends_on_padding = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # gives the system a device

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Mapping[str, Tensor]:
        """Return the inputs, as there is no encoder."""
        return inputs

    def decode(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(state["image"].device.type, enabled=False):
            return {"alpha": closed_form_alpha(state["image"].float(), state["trimap"].float())}

    def footprint(self) -> Footprint:
        return Footprint(picture=FLOAT * (PICTURE_FLOATS + SOLVER_FLOATS))
