"""Batch norm whose statistics are over the processes of a job, on any device.

torch's own `nn.SyncBatchNorm` refuses tensors on a CPU. The formulas are those of Ioffe and Szegedy, "Batch
Normalization", 2015, their sums taken over all processes.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the batches of all processes, which may differ in size; alone, and in eval mode, the same.

    The running variance takes the unbiased variance of the global batch, as torch's does.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        mean, variance, count = _global_moments(x.detach())
        if count <= 1:
            raise ValueError(f"batch norm: expected more than 1 value per channel over all processes, got {count:g}")
        self._update_running_statistics(mean, variance * (count / (count - 1)))
        return _Normalise.apply(x, self.weight, self.bias, mean, torch.rsqrt(variance + self.eps), count)

    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronise_batch_norms(model: nn.Module, device_type: str) -> nn.Module:
    """Replace every batch norm of `model` by one over all processes, around the same parameters and buffers.

    The same parameter objects, so an optimizer or an average made before goes on to hold them.

    Returns:
        The model; another object only where it is itself a batch norm.
    """
    if device_type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _converted(model, {})


def _converted(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module in done:
        return done[module]
    done[module] = module
    if type(module) is nn.BatchNorm2d:
        done[module] = _around(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child, done))
    return done[module]


def _around(norm: nn.BatchNorm2d) -> GlobalBatchNorm2d:
    synced = GlobalBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced._parameters, synced._buffers = norm._parameters, norm._buffers
    return synced.train(norm.training)


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance (C,) in float32 of (B, C, H, W) over all processes, and the values of a channel.

    Each process's variance is about its own mean, so that nothing cancels before the sums meet in float64.
    """
    values = x.float()
    count = float(x.numel() // x.shape[1])
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)  # (C,), (C,)
    mean, variance = mean.double(), variance.double()
    counts = torch.full_like(mean, count)
    sums = torch.stack([counts, count * mean, count * (variance + mean.square())])  # (3, C)
    dist.all_reduce(sums)
    total = sums[0, 0].item()
    global_mean = sums[1] / total
    global_variance = (sums[2] / total - global_mean.square()).clamp_min(0)
    return global_mean.float(), global_variance.float(), total


class _Normalise(torch.autograd.Function):
    """Normalise with global statistics; its gradient accounts for how each process's values moved them."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, scale, count):
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.count = count
        weight = torch.ones_like(mean) if weight is None else weight
        bias = torch.zeros_like(mean) if bias is None else bias
        gain = weight * scale
        return (x.float() * _channels(gain) + _channels(bias - mean * gain)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, mean, scale = ctx.saved_tensors
        grad = grad.float()
        normalised = (x.float() - _channels(mean)) * _channels(scale)
        grad_bias = grad.sum(dim=(0, 2, 3))  # (C,)
        grad_weight = (grad * normalised).sum(dim=(0, 2, 3))  # (C,)
        sums = torch.stack([grad_bias, grad_weight]).double()  # (2, C)
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / ctx.count).float()
        gain = scale if weight is None else weight * scale
        grad_x = (grad - _channels(mean_grad) - normalised * _channels(mean_product)) * _channels(gain)
        if weight is None:
            return grad_x.to(x.dtype), None, None, None, None, None
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]  # (C,) -> (C, 1, 1)
