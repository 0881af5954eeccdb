"""Outlines of networks: modules whose tensors have names and shapes but take no memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _NoDraws(TorchFunctionMode):
    """Skips normal draws, for which PyTorch loads its compiler on the meta device; that takes two seconds."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.normal_ and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs or {})


@contextmanager
def outlines() -> Iterator[None]:
    """Build networks without memory inside this context: their tensors are on the meta device.

    Example:
        >>> from torch import nn
        >>> with outlines():
        ...     network = nn.Linear(1_000_000, 1_000_000)
        >>> network.weight.shape
        torch.Size([1000000, 1000000])
    """
    with torch.device("meta"), _NoDraws():
        yield
