"""Activation checkpointing for modules with batch norm: less memory in training for a second forward pass."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Call `module` and keep only its inputs for the backward pass.

    The module must not draw random numbers. The backward pass computes its activations again, with the same result and
    gradients. Only the first pass updates the running statistics of batch norms.
    """

    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), _keeping_statistics(module)

    return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextlib.contextmanager
def _keeping_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms update copies of their buffers inside this context."""
    norms = [submodule for submodule in module.modules() if isinstance(submodule, _BatchNorm)]
    buffers = [norm._buffers for norm in norms]
    for norm in norms:
        norm._buffers = {name: None if kept is None else kept.clone() for name, kept in norm._buffers.items()}
    try:
        yield
    finally:
        for norm, kept in zip(norms, buffers, strict=True):
            norm._buffers = kept
