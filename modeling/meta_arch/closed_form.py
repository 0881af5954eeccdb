"""Closed-form matting as a system: no weights, nothing to train."""

from collections.abc import Mapping

import torch
from torch import Tensor

from modeling.classical import closed_form_alpha
from modeling.meta_arch.base import System
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint

SOLVER_FLOATS = 30  # a pixel: the Laplacian's twelve numbers, and what conjugate gradients hold of each size


class ClosedForm(System):
    """Alpha by Levin, Lischinski and Weiss, "A Closed-Form Solution to Natural Image Matting", 2008.

    See `modeling.classical.closed_form_alpha`. Tiles are an approximation: what is known outside of one does not count.

    Example:
        >>> alpha = ClosedForm().predict(image, trimap)
    """

    depends_on_padding = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # a system is where its tensors are

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Mapping[str, Tensor]:
        """The inputs: there is no encoder."""
        return inputs

    def decode(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(state["image"].device.type, enabled=False):
            return {"alpha": closed_form_alpha(state["image"].float(), state["trimap"].float())}

    def footprint(self) -> Footprint:
        return Footprint(picture=FLOAT * (PICTURE_FLOATS + SOLVER_FLOATS))
