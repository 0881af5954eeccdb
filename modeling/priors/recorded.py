"""A function whose CUDA kernels are recorded once and then started together."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2  # calls before recording: libraries allocate their workspaces at the first
MAX_SHAPES = 4  # recordings hold their memory, so other shapes are computed as usual


class Recorded:
    """A function of tensors whose kernels are recorded as one CUDA graph for each shape of its arguments.

    On a GPU most of the time of closed-form matting on small crops is spent on starting thousands of small kernels. A
    graph starts all of them in one call. The kernels are the same, so the result is bit for bit the same. On other
    devices the function is called directly.

    Args:
        function: function of tensors on one device that returns a tensor. It must use no gradients and no random
            numbers, must not wait for the device, and must depend on the values of its arguments only.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._graphs: dict[tuple, _Graph] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorded":
        """A copy of the function without recordings, which belong to the tensors of the original."""
        return Recorded(copy.deepcopy(self.function, memo))

    @torch.no_grad()
    def __call__(self, *arguments: Tensor) -> Tensor:
        if not all(argument.is_cuda for argument in arguments):
            return self.function(*arguments)
        key = tuple((argument.device, argument.dtype, tuple(argument.shape)) for argument in arguments)
        if key not in self._graphs:
            if len(self._graphs) == MAX_SHAPES:
                return self.function(*arguments)
            self._graphs[key] = _Graph(self.function, arguments)
        return self._graphs[key].replay(arguments)


class _Graph:
    """A recording with the tensors that it reads from and writes to."""

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
        self.arguments = [argument.clone(memory_format=torch.contiguous_format) for argument in arguments]
        device = self.arguments[0].device
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    function(*self.arguments)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads, such as the one that pins the loader's memory, may go on calling CUDA.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.result = function(*self.arguments)

    def replay(self, arguments: tuple[Tensor, ...]) -> Tensor:
        for recorded, argument in zip(self.arguments, arguments, strict=True):
            recorded.copy_(argument)
        self.graph.replay()
        return self.result.clone()
