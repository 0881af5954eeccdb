"""Running average of the weights, which scores better than the last weights of a noisy run."""

import copy

import torch
from torch import nn

from runtime.errors import InputError

WARM_UP = 10  # updates for which the average lags behind, so that the first weights are forgotten


class WeightAverage:
    """Exponential moving average of a model's parameters and buffers (Polyak and Juditsky, 1992).

    In update n the average moves by 1 - min(decay, n / (n + 10)) towards the weights, the warm-up of TensorFlow's
    `ExponentialMovingAverage`. BatchNorm's statistics are averaged like weights, so that they match the averaged
    weights. Integers, such as BatchNorm's count of batches, are copied.

    Args:
        model: model without wrappers. Its copy, `self.model`, in eval mode and without gradients, is scored and saved.
            Frozen parameters are shared with it.
        decay: share of the old average that remains in each update, in [0, 1).

    Raises:
        InputError: not 0 <= decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"train.ema_decay: expected 0 <= decay < 1, or null for no average, got {decay}")
        self.decay = decay
        self.updates = 0
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        shared = {id(parameter): parameter for parameter in frozen}  # frozen parameters are not copied
        self.model = copy.deepcopy(model, shared).eval().requires_grad_(False)
        self._names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of `model`, which has no wrappers and is on the same device."""
        self.updates += 1
        share = 1 - min(self.decay, self.updates / (self.updates + WARM_UP))
        averages, values = [], []
        for average, value in zip(self._tensors(self.model), self._tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, share)

    def _tensors(self, model: nn.Module) -> list[torch.Tensor]:
        parameters = dict(model.named_parameters())
        return [*(parameters[name] for name in self._names), *model.buffers()]
