"""Linear layers through oneDNN where that is faster: float32 inference on a CPU.

PyTorch gives float32 matrix products on a CPU to MKL, which on AMD's processors is the slower of the two libraries it
comes with, and runs GELU as a pass of its own over the widest tensor of a block. oneDNN's product takes the bias and
GELU along. PyTorch's compiler uses the same operator; it has no public name, so its absence is provided for.
docs/backbone.md has the measurements.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


class Linear(nn.Linear):
    """nn.Linear, with GELU after it where asked for; its weights start as nn.Linear's."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, gelu: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, gelu=self.gelu)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x W^T + b, and the exact GELU of it where asked for.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (..., out).
    """
    if _onednn_takes(x, weight):
        return _ONEDNN(x, weight, bias, "gelu" if gelu else "none", [], "none" if gelu else "")
    out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def _onednn_takes(x: Tensor, weight: Tensor) -> bool:
    return (
        _ONEDNN is not None
        and torch.backends.mkldnn.enabled
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
