"""Linear layers that use oneDNN where it is faster: float32 inference on a CPU.

PyTorch uses MKL for float32 matrix products on a CPU. On AMD's processors MKL is the slower of its two libraries, and
GELU needs a separate pass over the widest tensor of a block. oneDNN's product includes the bias and GELU. PyTorch's
compiler uses the same operator. It has no public name, so the code also works without it. docs/backbone.md has the
measurements.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


class Linear(nn.Linear):
    """nn.Linear with an optional GELU after it. Its initial weights are those of nn.Linear."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, gelu: bool = False) -> None:
        super().__init__(in_features, out_features, bias)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias, gelu=self.gelu)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x W^T + b, followed by the exact GELU if `gelu` is true.

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
